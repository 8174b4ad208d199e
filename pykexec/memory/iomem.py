"""The text of /proc/iomem (kernel/resource.c:r_show) as values.

Without CAP_SYS_ADMIN every address reads as zero: then `parse_iomem` returns no lines, which
callers treat as *unknown*.
"""

from __future__ import annotations

import re

from pykexec.frozen import dataclass
from pykexec.memory.map import MemoryMap, MemoryRange, RangeType
from pykexec.memory.ranges import PhysRange, RangeSet

ADDED_RAM = "System RAM ("
"""Followed by the name of the driver that added it."""
LINE = re.compile(r"( *)([0-9a-fA-F]{1,16})-([0-9a-fA-F]{1,16}) : (.*)")


@dataclass(frozen=True, slots=True)
class IomemLine:
    """One resource; depth 0 is the top of the tree."""

    range: PhysRange
    name: str
    depth: int


def parse_iomem(text: str) -> tuple[IomemLine, ...]:
    """The lines in order; () if the kernel hid the addresses.

    Lines that r_show does not print, and empty or reversed ranges, are left out.
    """
    lines: list[IomemLine] = []
    for line in text.splitlines():
        match = LINE.fullmatch(line)
        if not match:
            continue
        start, last = int(match[2], 16), int(match[3], 16)
        if start <= last:
            span = PhysRange.from_inclusive(start, last)
            lines.append(IomemLine(span, match[4].strip(), len(match[1]) // 2))
    return tuple(lines) if any(line.range.last for line in lines) else ()


def memory_map(lines: tuple[IomemLine, ...], held: bool = False) -> MemoryMap:
    """Lines whose label is a memory type, at any depth, as kexec-tools reads them.

    If `held`, "reserved" inside of System RAM is memory of the running kernel, as on arm64, where
    the kernel shows what it reserved before its allocators started
    (arch/arm64/kernel/setup.c:reserve_memblock_reserved_regions); elsewhere it is the firmware's.
    """
    typed = [(line, kind) for line in lines if (kind := RangeType.from_label(line.name))]
    own = [item for item in typed if held and item[0].depth and item[1] is RangeType.RESERVED]
    return MemoryMap.of(
        (MemoryRange(line.range, kind) for line, kind in typed if (line, kind) not in own),
        RangeSet.of(line.range for line in lines if line.name.startswith(ADDED_RAM)),
        RangeSet.of(line.range for line, _ in own),
    )


def named(lines: tuple[IomemLine, ...], *names: str) -> RangeSet:
    """The ranges of these resources, e.g. "Crash kernel", "Kernel code"."""
    return RangeSet.of(line.range for line in lines if line.name in names)
