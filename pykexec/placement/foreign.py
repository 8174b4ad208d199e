"""Refuses images for another architecture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.errors import NotSupported
from pykexec.images.kernel_image import ForeignImage

if TYPE_CHECKING:
    from pykexec.images.kernel_image import KernelImage


class ForeignArchitecture(NotSupported):
    """An image that is recognized but cannot be loaded."""

    code = "foreign-image"


LOOK = "use pykexec inspect to see what is in it"


def foreign(image: KernelImage, why: str, hint: str = LOOK) -> ForeignArchitecture:
    """The error, with the reason."""
    return ForeignArchitecture(f"{image.path}: {why}", hint=hint, type=image.type)


def refuse_foreign(image: KernelImage) -> None:
    """Raises ForeignArchitecture for an image that no architecture loads."""
    if isinstance(image.boot, ForeignImage):
        raise foreign(image, image.boot.why)
