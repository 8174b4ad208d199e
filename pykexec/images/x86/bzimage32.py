"""bzImage by its 32-bit entry: Documentation/arch/x86/boot.rst, protocol 2.00 and later.

Every i386 kernel, and x86_64 kernels from before protocol 2.12. Fields that a protocol version does
not have get the value that boot.rst specifies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pykexec.abi.x86.bootparam import SETUP_HEADER_OFFSET, LoadFlag, setup_header
from pykexec.images.kernel_image import ImageType, KernelImage, Linux32Boot, Refused
from pykexec.images.x86.bzimage import (
    PARAGRAPH,
    SECTOR,
    lies,
    read_head,
    truncated,
    version_text,
    wrong_setup_sects,
)

if TYPE_CHECKING:
    from pykexec.images.contents import OpenFile

OLDEST_PROTOCOL = 0x200
HAS_SYSSIZE_32 = 0x204
HAS_INITRD_MAX, HAS_RELOCATION, HAS_CMDLINE_SIZE, HAS_INIT_SIZE = 0x203, 0x205, 0x206, 0x20A
OLD_CMDLINE_SIZE = 255
OLD_INITRD_ADDR_MAX = 0x37FFFFFF
"""Also DEFAULT_INITRD_ADDR_MAX of kexec-tools."""
KERN32_BASE = 0x100000
"""The address at which a kernel that is not relocatable is linked."""
SHORTEST_HEADER = 0x206
"""Its end in the file, with HdrS and the version inside."""
MIN_FILE = 2 * SECTOR


def _parse(file: OpenFile) -> KernelImage | Refused:
    """The image, or why this is not one."""
    if file.size < MIN_FILE:
        return Refused(f"{file.size:#x} bytes, less than two sectors")
    head = read_head(file)
    if isinstance(head, Refused):
        return head
    raw = _header_bytes(head)
    header = setup_header.parse(raw)
    version = header.version
    if version < OLDEST_PROTOCOL:
        return Refused(
            f"boot protocol {version >> 8}.{version & 255:02}, but 2.00 or later is needed", True
        )
    if not header.loadflags & LoadFlag.LOADED_HIGH:
        return Refused("a zImage: LOADED_HIGH is not set", close=True)
    setup_size = (header.setup_sects or 4) * SECTOR + SECTOR
    payload = file.size - setup_size
    if why := truncated(file.size, setup_size, _promised_size(header)):
        return Refused(why, close=True)
    relocatable = version >= HAS_RELOCATION and bool(header.relocatable_kernel)
    boot = Linux32Boot(
        protocol=version,
        setup_header=raw,
        memory=header.init_size if version >= HAS_INIT_SIZE else payload,
        kernel_alignment=header.kernel_alignment if relocatable else 0x1000,
        load_addr=max(header.pref_address if version >= HAS_INIT_SIZE else 0, KERN32_BASE),
        relocatable=relocatable,
        cmdline_size=header.cmdline_size if version >= HAS_CMDLINE_SIZE else OLD_CMDLINE_SIZE,
        initrd_addr_max=(
            header.initrd_addr_max if version >= HAS_INITRD_MAX else OLD_INITRD_ADDR_MAX
        ),
        entry_offset=_entry_offset(header, payload, relocatable),
        setup=file.span(0, setup_size),
    )
    if why := (
        lies(payload, boot.memory, boot.kernel_alignment, boot.cmdline_size)
        or _out_of_reach(boot)
        or wrong_setup_sects(file, header, setup_size)
    ):
        return Refused(why, close=True)
    return KernelImage(
        type="bzImage",
        path=str(file.path),
        version=version_text(file, header.kernel_version, setup_size),
        payload=file.span(setup_size, payload),
        boot=boot,
    )


def _promised_size(header: Any) -> int:
    """Bytes of the kernel by syssize. Before protocol 2.04 that has 16 bits, so the size of a
    kernel above 1 MiB is not known, except for these bits."""
    paragraphs = header.syssize if header.version >= HAS_SYSSIZE_32 else header.syssize & 0xFFFF
    return int(paragraphs) * PARAGRAPH


def _entry_offset(header: Any, payload: int, relocatable: bool) -> int | None:
    """The 32-bit entry by code32_start, which is for a kernel at 1 MiB; None if it is outside of a
    kernel there, so that only the setup code knows what to start. A relocatable kernel is entered
    at its start, whatever the field contains (boot.rst)."""
    offset: int = header.code32_start - KERN32_BASE
    if relocatable:
        return 0
    return offset if 0 <= offset < payload else None


def _header_bytes(head: bytes) -> bytes:
    """The setup header up to its own end (the byte at 0x201), then zeros. In protocols before 2.05
    it ends before 0x230: what follows is code."""
    size: int = setup_header.sizeof()
    end = max(0x202 + head[0x201], SHORTEST_HEADER + 2)
    return head[SETUP_HEADER_OFFSET : min(end, len(head))].ljust(size, b"\0")


def _out_of_reach(boot: Linux32Boot) -> str | None:
    """Which address a 32-bit kernel cannot use."""
    if boot.load_addr + boot.memory > 1 << 32:
        return f"pref_address {boot.load_addr:#x} and its memory end above 4 GiB"
    if boot.initrd_addr_max < KERN32_BASE:
        return f"initrd_addr_max {boot.initrd_addr_max:#x} is below 1 MiB"
    return None


BZIMAGE = ImageType("bzImage", _parse)
