"""bzImage by its 64-bit entry: Documentation/arch/x86/boot.rst, protocol 2.12 and later.

Offsets and sizes in the header are not trusted: each is checked against the file before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pykexec.abi.x86.bootparam import (
    BOOT_FLAG,
    HDRS_MAGIC,
    SETUP_HEADER_MAX,
    SETUP_HEADER_OFFSET,
    LoadFlag,
    Xlf,
    setup_header,
)
from pykexec.images.codecs import HEAD_SIZE, codec_of
from pykexec.images.kernel_image import ImageType, KernelImage, LinuxX86Boot, Refused, printable

if TYPE_CHECKING:
    from pykexec.images.contents import OpenFile

SECTOR = 512
PARAGRAPH = 16
"""The unit of syssize."""
HAS_PAYLOAD = 0x208
"""The protocol version that added payload_offset and payload_length."""
MAX_SETUP_SECTS = 64
"""boot.rst: the setup code has at most 32 KiB."""
OLDEST_PROTOCOL = 0x20C
"""2.12 (Linux 3.8) added xloadflags."""
STARTUP_64_OFFSET = 0x200
MAX_INIT_SIZE = 1 << 30
"""Far more than any kernel needs: a header with more is wrong."""
MAX_ALIGNMENT = 1 << 30
VERSION_MAX = 256


def _parse(file: OpenFile) -> KernelImage | Refused:
    """The image, or why this is not one."""
    header_end = SETUP_HEADER_OFFSET + setup_header.sizeof()
    if file.size < header_end:
        return Refused(f"{file.size:#x} bytes, but a setup header ends at {header_end:#x}")
    head = read_head(file)
    if isinstance(head, Refused):
        return head
    header = setup_header.parse(head[SETUP_HEADER_OFFSET:header_end])
    if why := _wrong_kind(header.version, header.loadflags, header.xloadflags):
        return Refused(why)
    setup_size = (header.setup_sects or 4) * SECTOR + SECTOR
    payload, alignment = file.size - setup_size, header.kernel_alignment
    if why := (
        truncated(file.size, setup_size, header.syssize * PARAGRAPH, STARTUP_64_OFFSET)
        or lies(payload, header.init_size, alignment, header.cmdline_size)
        or wrong_setup_sects(file, header, setup_size)
    ):
        return Refused(why, close=True)
    if header.pref_address >= 1 << 46:
        return Refused(f"pref_address {header.pref_address:#x} is above 2^46", close=True)
    end = min(0x202 + head[0x201], len(head))
    if end < header_end:
        return Refused(f"setup header ends at {end:#x}, expected {header_end:#x}", close=True)
    return KernelImage(
        type="bzImage64",
        path=str(file.path),
        version=version_text(file, header.kernel_version, setup_size),
        payload=file.span(setup_size, payload),
        boot=LinuxX86Boot(
            protocol=header.version,
            setup_header=head[SETUP_HEADER_OFFSET:end],
            init_size=header.init_size,
            kernel_alignment=alignment,
            pref_address=header.pref_address,
            cmdline_size=header.cmdline_size,
            xloadflags=header.xloadflags,
            relocatable=bool(header.relocatable_kernel),
            entry_offset=STARTUP_64_OFFSET,
        ),
    )


def read_head(file: OpenFile) -> bytes | Refused:
    """The part of the file that can contain a setup header, if it has both magics."""
    head = file.read(0, min(file.size, SETUP_HEADER_OFFSET + SETUP_HEADER_MAX))
    if head[0x202:0x206] != HDRS_MAGIC or head[0x1FE:0x200] != BOOT_FLAG.to_bytes(2, "little"):
        return Refused("no boot flag 0xaa55 and HdrS at 0x1fe and 0x202")
    return head


def _wrong_kind(version: int, loadflags: int, xloadflags: int) -> str | None:
    """Why a kernel with the magic has no usable 64-bit entry."""
    if version < OLDEST_PROTOCOL:
        return f"boot protocol {version >> 8}.{version & 255:02}, but 2.12 or later is needed"
    if not loadflags & LoadFlag.LOADED_HIGH:
        return "a zImage: LOADED_HIGH is not set"
    if not xloadflags & Xlf.XLF_KERNEL_64:
        return "it is a 32-bit kernel, without a 64-bit entry: XLF_KERNEL_64 is not set"
    if not xloadflags & Xlf.XLF_CAN_BE_LOADED_ABOVE_4G:
        return "XLF_CAN_BE_LOADED_ABOVE_4G is not set"
    return None


def truncated(file_size: int, setup_size: int, syssize: int, entry: int = 0) -> str | None:
    """Why the file is shorter than its header requires; all in bytes. `entry` is the offset of the
    entry in the kernel."""
    payload = file_size - setup_size
    if payload <= entry:
        return f"truncated: the kernel starts at {setup_size:#x}, the file ends at {file_size:#x}"
    if payload < syssize - PARAGRAPH:
        return f"truncated: syssize is {syssize:#x} bytes, but the file has {payload:#x}"
    return None


def lies(payload: int, memory: int, alignment: int, cmdline_size: int) -> str | None:
    """Which field of a header is impossible, for a kernel of `payload` bytes that needs
    `memory`."""
    if not payload <= memory <= MAX_INIT_SIZE:
        return f"init_size {memory:#x}, expected {payload:#x} to {MAX_INIT_SIZE:#x}"
    if not 0x1000 <= alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        return f"kernel_alignment {alignment:#x} is not a power of two from 4K to 1G"
    if not 1 <= cmdline_size <= 0xFFFF:
        return f"cmdline_size {cmdline_size:#x}, expected 1 to 0xffff"
    return None


def wrong_setup_sects(file: OpenFile, header: Any, setup_size: int) -> str | None:
    """Whether setup_sects contradicts what the header points to: the banner is in the setup code
    (boot.rst, kernel_version), and the compressed kernel (payload_offset, protocol 2.08) begins
    with the magic of a compression. An unknown compression is not a contradiction, unless another
    setup_sects would lead to a known one."""
    if header.kernel_version and header.kernel_version + 0x200 >= setup_size:
        return (
            f"setup_sects {header.setup_sects}: kernel_version points to "
            f"{header.kernel_version + 512:#x}, beyond the setup code"
        )
    if header.version < HAS_PAYLOAD or not header.payload_length:
        return None
    at, end = header.payload_offset, header.payload_offset + header.payload_length
    if setup_size + end > file.size:
        return (
            f"truncated: the packed kernel ends at {setup_size + end:#x}, the file at "
            f"{file.size:#x}"
        )
    if _is_packed(file, setup_size + at):
        return None
    for sectors in range(1, MAX_SETUP_SECTS + 1):
        if _is_packed(file, (sectors + 1) * SECTOR + at):
            return (
                f"setup_sects {header.setup_sects}: there is no packed kernel at "
                f"payload_offset {at:#x}, but with {sectors} there would be one"
            )
    return None


def _is_packed(file: OpenFile, at: int) -> bool:
    return at + HEAD_SIZE <= file.size and codec_of(file.read(at, HEAD_SIZE)) is not None


def version_text(file: OpenFile, pointer: int, setup_size: int) -> str | None:
    """The banner that kernel_version points to, if it is in the setup part."""
    start = pointer + 0x200
    if not pointer or start >= setup_size:
        return None
    return printable(file.read(start, min(VERSION_MAX, setup_size - start)))


BZIMAGE64 = ImageType("bzImage64", _parse)
