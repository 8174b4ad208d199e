"""The IOMMUs, and the memory that they use: if a stub moves it, every DMA goes to wrong
addresses."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator

from pykexec.host.kernel_map import KcoreLoad, physical
from pykexec.host.root import Root, text
from pykexec.machine import Iommus, Unknown
from pykexec.memory.ranges import BadRange, PhysRange, RangeSet

CLASS = "/sys/class/iommu"
DMAR, IVRS = "/sys/firmware/acpi/tables/DMAR", "/sys/firmware/acpi/tables/IVRS"
REGSET = "/sys/kernel/debug/iommu/intel/iommu_regset"
"""With CONFIG_INTEL_IOMMU_DEBUGFS: the registers of every unit, read by the kernel itself. /dev/mem
is not used: most kernels refuse that, and reading a device has risks."""
TABLE_MAX = 1 << 20
TABLE_SIZE = 4096
"""Bytes of a table, a queue and their unit, whatever the kernel's page size (VT-d, AMD-Vi)."""
BLOCKS_AT = 48
"""Bytes before the first block, in DMAR and in IVRS."""
DMAR_BLOCK, RMRR = struct.Struct("<HH"), struct.Struct("<4x4xQQ")
"""Type and length; then the first and the last byte of a reserved range."""
IVRS_BLOCK, IVMD = struct.Struct("<BBH"), struct.Struct("<16xQQ")
"""Type, flags and length; then start and length of a range."""
RMRR_TYPE, IVMD_TYPES = 1, range(0x20, 0x23)
REGISTER = re.compile(r"^(RTADDR|IRTA|IQA|PQA)\s+0x[0-9a-f]+\s+0x([0-9a-f]{1,16})$", re.MULTILINE)
ROOT_ENTRY = struct.Struct("<QQ")
PRESENT = 1
ADDRESS = (1 << 52) - TABLE_SIZE
UNITS_MAX = 64


def iommus(root: Root, loads: tuple[KcoreLoad, ...] | Unknown) -> Iommus | Unknown:
    """The IOMMUs that translate, from /sys/class/iommu, and what is known about their memory."""
    names = root.entries(CLASS)
    if isinstance(names, Unknown):
        if root.exists(CLASS) is not False:
            return names
        names = ()
    reserved = RangeSet.of((*_rmrrs(root), *_ivmds(root)))
    tables = _intel_tables(root, loads)
    if isinstance(tables, Unknown):
        return Iommus(names, reserved, RangeSet(), tables.why)
    return Iommus(names, reserved, tables, None)


def _blocks(root: Root, path: str, head: struct.Struct) -> Iterator[tuple[int, bytes]]:
    """Type and bytes of each block of an ACPI table, up to the first invalid one."""
    found = root.read(path, TABLE_MAX)
    at = BLOCKS_AT
    while isinstance(found, bytes) and at + head.size <= len(found):
        kind, *_, length = head.unpack_from(found, at)
        if length < head.size or at + length > len(found):
            return
        yield kind, found[at : at + length]
        at += length


def _rmrrs(root: Root) -> Iterator[PhysRange]:
    """Memory that firmware reserves for devices (Intel VT-d, 8.4)."""
    for kind, block in _blocks(root, DMAR, DMAR_BLOCK):
        if kind == RMRR_TYPE and len(block) >= RMRR.size:
            first, last = RMRR.unpack_from(block)
            yield from _spans([(first, last + 1)])


def _ivmds(root: Root) -> Iterator[PhysRange]:
    """The same in AMD's table (AMD I/O Virtualization, 5.2.2.3)."""
    for kind, block in _blocks(root, IVRS, IVRS_BLOCK):
        if kind in IVMD_TYPES and len(block) >= IVMD.size:
            start, size = IVMD.unpack_from(block)
            yield from _spans([(start, start + size)])


def _spans(pairs: Iterable[tuple[int, int]]) -> Iterator[PhysRange]:
    """Whole pages; invalid ranges are left out."""
    for start, end in pairs:
        try:
            yield PhysRange(start, end).outward(TABLE_SIZE)
        except BadRange:
            continue


def _intel_tables(root: Root, loads: tuple[KcoreLoad, ...] | Unknown) -> RangeSet | Unknown:
    """Root and context tables, interrupt-remapping tables and queues of every unit, if the kernel
    shows its registers. Page tables are not included, because mappings change."""
    found = text(root, REGSET)
    if isinstance(found, Unknown):
        return found
    registers = [(match[1], int(match[2], 16)) for match in REGISTER.finditer(found)]
    roots = [value for name, value in registers if name == "RTADDR" and value][:UNITS_MAX]
    if not roots:
        return Unknown(f"{REGSET}: has no RTADDR")
    known = [_size_of(name, value) for name, value in registers]
    for value in roots:
        entries = _context_tables(root, loads, value & ADDRESS)
        if isinstance(entries, Unknown):
            return entries
        known += entries
    return RangeSet.of(_spans(known))


def _size_of(name: str, value: int) -> tuple[int, int]:
    """Start and end of what a register points to (Intel VT-d, 11.4): a page of root entries;
    2^(S+1) entries of 16 bytes for interrupts; 2^S pages of a queue."""
    start = value & ADDRESS
    if not start:
        return 0, 0
    if name == "RTADDR":
        return start, start + TABLE_SIZE
    if name == "IRTA":
        return start, start + (16 << (value & 0xF) + 1)
    return start, start + (TABLE_SIZE << (value & 7))


def _context_tables(
    root: Root, loads: tuple[KcoreLoad, ...] | Unknown, at: int
) -> list[tuple[int, int]] | Unknown:
    """The pages that the present entries of a root table point to; two for each in scalable
    mode."""
    if isinstance(loads, Unknown):
        return loads
    table = physical(root, loads, at, TABLE_SIZE)
    if isinstance(table, Unknown):
        return table
    words = (word for pair in ROOT_ENTRY.iter_unpack(table) for word in pair)
    return [(word & ADDRESS, (word & ADDRESS) + TABLE_SIZE) for word in words if word & PRESENT]
