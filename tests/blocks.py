"""Memory blocks of machines that do not exist."""

from __future__ import annotations

from dataclasses import replace

from pykexec.machine import Machine
from pykexec.memory.blocks import MemoryBlock, MemoryBlocks
from pykexec.memory.map import MemoryMap, RangeType
from pykexec.memory.ranges import PhysRange
from tests.builders import GIB, MIB, make_machine, ram, reserved

PCI_HOLE = 3 * GIB


def map_of(size: int) -> MemoryMap:
    """Like QEMU's: up to 3 GiB below 4 GiB, the rest above; 128 KiB of firmware tables at the end
    of the lower part."""
    low = min(size, PCI_HOLE)
    top = low - 0x20000
    spans = [(0, 0x9FC00), (MIB, top)]
    if size > low:
        spans.append((4 * GIB, 4 * GIB + size - low))
    return MemoryMap.of([*ram(*spans), *reserved((0x9FC00, 0xA0000), (0xF0000, MIB), (top, low))])


def blocks_of(
    memory_map: MemoryMap,
    size: int,
    movable: tuple[tuple[int, int], ...] = (),
    nodes: int = 1,
) -> MemoryBlocks:
    """As the kernel has them: a block with a hole, or in several zones, has none."""
    ram_ranges = memory_map.of_type(RangeType.RAM) | memory_map.driver_ram
    end = ram_ranges.ranges[-1].end
    found = []
    for number in range(-(-end // size)):
        span = PhysRange.sized(number * size, size)
        if not ram_ranges.overlaps(span):
            continue
        zone = "DMA32" if span.end <= 4 * GIB else "Normal"
        if any(start <= span.start and span.end <= last for start, last in movable):
            zone = "Movable"
        whole = ram_ranges.covers(span) and span.start >= 16 * MIB
        node = span.start * nodes // (end + 1)
        found.append(MemoryBlock(number, size, "online", (zone if whole else "none",), node))
    return MemoryBlocks(size, tuple(found))


def machine_of(
    size: int,
    block: int = 128 * MIB,
    movable: tuple[tuple[int, int], ...] = (),
    nodes: int = 1,
    kernel: int = 0x1000000,
) -> Machine:
    """`size` bytes in blocks of `block`, the kernel's 32 MiB at `kernel`, no balloon."""
    found = map_of(size)
    return replace(
        make_machine(found, kernel_image=[PhysRange.sized(kernel, 32 * MIB)]),
        memory_blocks=blocks_of(found, block, movable, nodes),
        balloons=(),
        swap_in_memory=(),
    )
