"""The kernel itself as an open file, for kexec_file_load(2), which unpacks nothing."""

from __future__ import annotations

from pykexec.errors import NotSupported
from pykexec.images.compression import spooled
from pykexec.images.contents import InnerFile, OpenFile
from pykexec.images.kernel_image import KernelImage, LinuxArm64Boot, LinuxX86Boot
from pykexec.remedies import Advice, Use, Wish

BY_TABLE = Use(Wish.SYSCALL, "load")


def has_kernel_loader(image: KernelImage) -> bool:
    """Whether the kernel has a loader for it: for a bzImage, or for an Image
    (arch/arm64/kernel/kexec_image.c)."""
    return isinstance(image.boot, LinuxX86Boot | LinuxArm64Boot) and not image.boot.lowest


def kernel_file(image: KernelImage, hint: Advice = BY_TABLE) -> OpenFile:
    """The user's file if it is a kernel that the kernel can load, so that its signature and IMA
    attributes are checked. Raises NotSupported, with `hint`, for any other image."""
    found = image.inner
    if found is None or not has_kernel_loader(image):
        raise NotSupported(
            f"kexec_file_load needs a bzImage, but {image.path} is of type {image.type}",
            hint=hint,
        )
    if not isinstance(found, InnerFile):
        return found
    pieces = (bytes(chunk) for chunk in found.span(0, found.size).chunks())
    return spooled(image.path, pieces)
