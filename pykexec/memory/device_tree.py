"""The memory that a kernel finds by a device tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.abi.devicetree import address_ranges
from pykexec.memory.ranges import PhysRange, RangeSet

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pykexec.abi.devicetree import DeviceTree

LARGEST_PAGE = 64 << 10
"""A kernel with such pages rounds ranges of memory to them."""
END = 1 << 64


def memory_of_tree(tree: DeviceTree) -> RangeSet:
    """What its memory nodes name (drivers/of/fdt.c:early_init_dt_scan_memory)."""
    nodes = [node for node in tree.root.children if node.is_memory and node.is_available]
    values = [node.get("linux,usable-memory") or node.get("reg") for node in nodes]
    return whole_ranges(pair for value in values for pair in address_ranges(value, tree.root.cells))


def whole_ranges(pairs: Iterable[tuple[int, int]]) -> RangeSet:
    """(address, size) pairs in bytes without those that are empty or reach beyond 64 bits, rounded
    outward to pages of every size."""
    return RangeSet.of(
        PhysRange.sized(start, size).outward(LARGEST_PAGE)
        for start, size in pairs
        if size and start + size <= END - LARGEST_PAGE
    )
