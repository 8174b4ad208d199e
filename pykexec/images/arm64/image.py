"""Image, the kernel of arm64 as it runs: a header of 64 bytes, which is also its first code
(Documentation/arch/arm64/booting.rst). Distributions ship it as it is, compressed, as zboot or in a
UKI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.abi.arm64.image import (
    ARM64_MAGIC,
    ARM64_MAGIC_AT,
    PAGE_SIZES,
    Arm64Flag,
    arm64_header,
)
from pykexec.images.banner import banner
from pykexec.images.kernel_image import ImageType, KernelImage, LinuxArm64Boot, Refused

if TYPE_CHECKING:
    from pykexec.images.contents import OpenFile

OLD = "image_size is 0: it is a kernel from before 3.17, which does not tell how much it needs"


def _parse(file: OpenFile) -> KernelImage | Refused:
    size = arm64_header.sizeof()
    if file.size < size or file.read(ARM64_MAGIC_AT, len(ARM64_MAGIC)) != ARM64_MAGIC:
        return Refused(f"no magic {ascii(ARM64_MAGIC)[1:]} at {ARM64_MAGIC_AT:#x}")
    header = arm64_header.parse(file.read(0, size))
    if not header.image_size:
        return Refused(OLD, unserved=True, hint="use a later kernel")
    if header.image_size < file.size // 2:
        return Refused(
            f"image_size is {header.image_size:#x}, but the file has {file.size:#x} bytes",
            close=True,
        )
    payload = file.span(0, file.size)
    return KernelImage(
        type=ARM64_IMAGE.name,
        path=str(file.path),
        version=banner(payload),
        payload=payload,
        boot=LinuxArm64Boot(
            text_offset=header.text_offset,
            image_size=max(header.image_size, file.size),
            page_size=PAGE_SIZES[header.flags >> 1 & 3],
            big_endian=bool(header.flags & Arm64Flag.BIG_ENDIAN),
            anywhere=bool(header.flags & Arm64Flag.ANYWHERE),
        ),
    )


ARM64_IMAGE = ImageType("arm64-image", _parse)
