"""boot_params as read by a booting x86_64 kernel: its RAM, and its command line.

arch/x86/kernel/e820.c (append_e820_table, e820__memory_setup_extended) and
arch/x86/kernel/head64.c (get_cmd_line_ptr).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykexec.abi.x86.bootparam import (
    BOOT_PARAMS_SIZE,
    E820_MAX_ENTRIES_ZEROPAGE,
    BootParamsField,
    E820Type,
    SetupType,
    setup_header,
)
from pykexec.abi.x86.page import PAGE_SIZE
from pykexec.backends.simulated.second.relocate import SwitchFailed
from pykexec.errors import UsageError
from pykexec.memory.map import MemoryMap, MemoryRange, RangeType
from pykexec.memory.ranges import PhysRange
from pykexec.placement.cmdline import memparse

if TYPE_CHECKING:
    from pykexec.backends.simulated.kernel.ram import Ram

E820_ENTRY = struct.Struct("<QQI")
SETUP_DATA = struct.Struct("<QII")
SETUP_HEADER_END = 0x290
COMMAND_LINE_MAX = 64 << 10
MAX_SETUP_DATA = 1 << 20
MAX_NODES = 64
U32 = struct.Struct("<I")

TYPES = {
    E820Type.E820_TYPE_RAM: RangeType.RAM,
    E820Type.E820_TYPE_ACPI: RangeType.ACPI,
    E820Type.E820_TYPE_NVS: RangeType.NVS,
    E820Type.E820_TYPE_UNUSABLE: RangeType.UNUSABLE,
    E820Type.E820_TYPE_PMEM: RangeType.PMEM,
    E820Type.E820_TYPE_PRAM: RangeType.PRAM,
    E820Type.E820_TYPE_SOFT_RESERVED: RangeType.SOFT_RESERVED,
}


@dataclass(frozen=True, slots=True)
class ZeroPage:
    """What the kernel reads from its boot_params."""

    memory_map: MemoryMap
    entries: int
    """Number of e820 entries, before sorting and merging."""
    cmdline: str

    def elfcorehdr(self) -> int | None:
        """Address from elfcorehdr=[size@]addr; the last one counts. None if it is missing or not a
        number (the kernel then uses address 0, which has the same effect)."""
        found = None
        for word in self.cmdline.split():
            if word.startswith("elfcorehdr="):
                found = memparse(word.partition("=")[2].rpartition("@")[2])
        return found[0] if found and not found[1] else None


def read_zero_page(ram: Ram, addr: int) -> ZeroPage:
    """Read it at the address in RSI. Raises SwitchFailed for contents that no kernel could start
    with, NotMemory."""
    page = ram.read(addr, BOOT_PARAMS_SIZE)
    header = setup_header.parse(page[BootParamsField.HDR : SETUP_HEADER_END])
    if header.header != b"HdrS":
        raise SwitchFailed(f"boot_params at {addr:#x} have no setup header")
    ext_pointer = U32.unpack_from(page, BootParamsField.EXT_CMD_LINE_PTR)[0]
    count = page[BootParamsField.E820_ENTRIES]
    if count > E820_MAX_ENTRIES_ZEROPAGE:
        raise SwitchFailed(f"boot_params at {addr:#x}: {count} e820 entries")
    table = page[BootParamsField.E820_TABLE :][: count * E820_ENTRY.size]
    rows = [*E820_ENTRY.iter_unpack(table), *_extended_rows(ram, header.setup_data)]
    return ZeroPage(
        memory_map=MemoryMap.of(found for row in rows if (found := _memory_range(*row))),
        entries=len(rows),
        cmdline=_read_cmdline(ram, header.cmd_line_ptr | ext_pointer << 32),
    )


def _extended_rows(ram: Ram, pointer: int) -> Iterator[tuple[int, int, int]]:
    """SETUP_E820_EXT nodes of the setup_data list."""
    for _ in range(MAX_NODES):
        if not pointer:
            return
        following, kind, size = SETUP_DATA.unpack(ram.read(pointer, SETUP_DATA.size))
        if kind == SetupType.SETUP_E820_EXT and size <= MAX_SETUP_DATA:
            whole = size - size % E820_ENTRY.size
            yield from E820_ENTRY.iter_unpack(ram.read(pointer + SETUP_DATA.size, whole))
        pointer = following
    raise SwitchFailed("the setup_data list has no end")


def _memory_range(addr: int, size: int, kind: int) -> MemoryRange | None:
    """None for an entry that the kernel skips: empty, or one that wraps around."""
    if not size or addr + size > 1 << 64:
        return None
    known = kind in E820Type.__members__.values()
    found = TYPES.get(E820Type(kind)) if known else None
    return MemoryRange(PhysRange.sized(addr, size), found or RangeType.RESERVED)


def _read_cmdline(ram: Ram, pointer: int) -> str:
    """Up to its NUL; "" if the pointer is 0."""
    text = bytearray()
    while pointer and len(text) < COMMAND_LINE_MAX:
        step = PAGE_SIZE - pointer % PAGE_SIZE
        piece = ram.read(pointer, step)
        end = piece.find(b"\0")
        if end >= 0:
            return (text + piece[:end]).decode(errors="surrogateescape")
        text += piece
        pointer += step
    if text:
        raise UsageError("the command line has no end")
    return ""
