"""An assumed memory map, if none could be read: that of a typical PC with as much RAM."""

from __future__ import annotations

from pykexec.memory.map import MemoryMap, MemoryRange, RangeType
from pykexec.memory.ranges import PhysRange, align_down

GRAIN = 4096
"""Bytes; MemTotal counts pages, none of which is smaller."""
LOW_RAM = PhysRange(0x1000, 0x9F000)
"""Conventional memory without page 0 and without the extended BIOS data area."""
LEGACY_HOLE = PhysRange(0x9F000, 0x100000)
PCI_HOLE = PhysRange(0x80000000, 0x100000000)
"""Firmware reserves the top of the first 4 GiB for devices; 2 GiB is the largest usual hole."""


def assumed_map(totalram: int) -> MemoryMap:
    """`totalram` bytes: low memory, 1 MiB to the PCI hole, and the rest above 4 GiB."""
    ram = [LOW_RAM]
    left = align_down(totalram, GRAIN) - LOW_RAM.size
    below = min(left, PCI_HOLE.start - LEGACY_HOLE.end)
    if below > 0:
        ram.append(PhysRange.sized(LEGACY_HOLE.end, below))
    if left > below > 0:
        ram.append(PhysRange.sized(PCI_HOLE.end, left - below))
    return MemoryMap.of(
        [MemoryRange(span, RangeType.RAM) for span in ram]
        + [MemoryRange(LEGACY_HOLE, RangeType.RESERVED)]
    )
