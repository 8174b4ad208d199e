"""/sys/firmware/memmap: the firmware's map as passed to the kernel
(Documentation/ABI/testing/sysfs-firmware-memmap). Readable by all users."""

from __future__ import annotations

from collections.abc import Iterable

from pykexec.memory.map import MemoryMap, MemoryRange, RangeType
from pykexec.memory.ranges import PhysRange


def _parse_entry(start: str, last: str, kind: str) -> MemoryRange | None:
    """The three files of one directory; None for an empty or unreadable entry. A type without a
    name of its own is reserved (e820.c:e820_type_to_string)."""
    try:
        low, high = int(start, 16), int(last, 16)
    except ValueError:
        return None
    if not 0 <= low <= high < 1 << 64:
        return None
    return MemoryRange(
        PhysRange.from_inclusive(low, high), RangeType.from_label(kind) or RangeType.RESERVED
    )


def memory_map(entries: Iterable[tuple[str, str, str]]) -> MemoryMap:
    """The map from (start, end, type) as text in hexadecimal; `end` is inclusive, as the kernel
    prints it."""
    return MemoryMap.of(found for entry in entries if (found := _parse_entry(*entry)))
