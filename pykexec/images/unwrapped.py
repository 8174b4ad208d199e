"""The bzImage itself as an open file, for kexec_file_load(2), which unpacks nothing."""

from __future__ import annotations

from pykexec.errors import NotSupported
from pykexec.images.compression import spooled
from pykexec.images.contents import InnerFile, OpenFile
from pykexec.images.kernel_image import KernelImage, LinuxX86Boot
from pykexec.remedies import Advice, Use, Wish

BY_TABLE = Use(Wish.SYSCALL, "load")


def bzimage_file(image: KernelImage, hint: Advice = BY_TABLE) -> OpenFile:
    """The user's file if it is a bzImage, so that its signature and IMA attributes are checked.
    Raises NotSupported, with `hint`, for any other image."""
    found = image.inner
    if found is None or not isinstance(image.boot, LinuxX86Boot) or image.boot.lowest:
        raise NotSupported(
            f"kexec_file_load needs a bzImage, but {image.path} is of type {image.type}",
            hint=hint,
        )
    if not isinstance(found, InnerFile):
        return found
    pieces = (bytes(chunk) for chunk in found.span(0, found.size).chunks())
    return spooled(image.path, pieces)
