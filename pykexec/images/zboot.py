"""PE zboot, the compressed EFI image of arm64, riscv and loongarch: the payload is an Image
(drivers/firmware/efi/libstub/zboot-header.S)."""

from __future__ import annotations

from pykexec.abi.pe import MZ_MAGIC, ZBOOT_MAGIC, zboot_header
from pykexec.images.contents import InnerFile, OpenFile
from pykexec.images.kernel_image import ImageType, Inside, Refused


def _parse(file: OpenFile) -> Inside | Refused:
    """The compressed Image inside, or why this is not a zboot file."""
    size = zboot_header.sizeof()
    if file.size < size:
        return Refused(f"{file.size:#x} bytes, less than the {size:#x} of a zboot header")
    raw = file.read(0, size)
    if raw[:2] != MZ_MAGIC or raw[4:8] != ZBOOT_MAGIC:
        return Refused("no MZ and zimg at 0 and 4")
    header = zboot_header.parse(raw)
    end = header.payload_offset + header.payload_size
    if header.payload_offset < size or not header.payload_size or end > file.size:
        return Refused(
            f"truncated: the payload is {header.payload_size:#x} bytes at "
            f"{header.payload_offset:#x}, the file ends at {file.size:#x}",
            close=True,
        )
    return Inside(
        file=InnerFile(file, header.payload_offset, header.payload_size),
        how="zboot",
        type="zboot",
    )


ZBOOT = ImageType("zboot", _parse)
