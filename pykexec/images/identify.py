"""Which image type a file is: the first of IMAGE_TYPES that takes it."""

from __future__ import annotations

import os

from pykexec.errors import UsageError
from pykexec.images import bzimage
from pykexec.images.contents import OpenFile
from pykexec.images.kernel_image import ImageType, KernelImage, NotAnImage

IMAGE_TYPES: tuple[ImageType, ...] = (bzimage.BZIMAGE64,)


def identify(path: str | os.PathLike[str], type_name: str | None = None) -> KernelImage:
    """Parse `path`, as `type_name` if that is given.

    Raises NotAnImage with the reason of each type, UnreadableFile, or UsageError
    for a type that does not exist.
    """
    types = tuple(kind for kind in IMAGE_TYPES if type_name in (None, kind.name))
    if not types:
        known = ", ".join(kind.name for kind in IMAGE_TYPES)
        raise UsageError(f"no image type {type_name!r}", hint=f"there are: {known}")
    file = OpenFile(path)
    reasons: list[str] = []
    for kind in types:
        found = kind.parse(file)
        if isinstance(found, KernelImage):
            return found
        if found.close:
            raise NotAnImage(f"{path}: not a {kind.name}: {found.why}", type=kind.name)
        reasons.append(f"{kind.name}: {found.why}")
    raise NotAnImage(f"{path}: not a kernel image of any known type", hint="; ".join(reasons))
