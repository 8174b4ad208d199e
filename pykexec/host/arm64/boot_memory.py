"""The memory that a kernel finds when it boots: by the memory map of EFI, otherwise by the device
tree. What was added later (ACPI memory hot-plug) is in neither, and the next kernel starts without
it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from pykexec.abi.devicetree import (
    BadDeviceTree,
    DeviceTree,
    Node,
    address_ranges,
    parse_device_tree,
)
from pykexec.host.kernel_map import physical
from pykexec.machine import DeviceTreeFirmware, Unknown
from pykexec.memory.ranges import PhysRange, RangeSet

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pykexec.host.kernel_map import KcoreLoad
    from pykexec.host.root import Root

MAP_START, MAP_SIZE, DESCRIPTOR_SIZE = (
    *("linux,uefi-mmap-start", "linux,uefi-mmap-size"),
    "linux,uefi-mmap-desc-size",
)
"""Properties of /chosen (Documentation/arch/arm/uefi.rst)."""
MAP_MAX = 1 << 20
"""Limit in bytes for the map; that of a server has some 10 KiB."""
DESCRIPTOR = struct.Struct("<I4xQ8xQQ")
"""efi_memory_desc_t: type, physical address, pages of 4 KiB, attribute."""
EFI_PAGE = 4096
CACHED = 0x2 | 0x4 | 0x8
"""EFI_MEMORY_WC, _WT and _WB: memory, whatever its type is (drivers/firmware/efi/efi-init.c:
is_memory)."""
LARGEST_PAGE = 64 << 10
"""A kernel with such pages rounds the map's ranges to them."""
END = 1 << 64


def boot_memory(
    root: Root, firmware: DeviceTreeFirmware, loads: tuple[KcoreLoad, ...] | Unknown
) -> RangeSet | Unknown:
    """All memory, with what is reserved in it; not empty."""
    if isinstance(firmware.tree, Unknown):
        return firmware.tree
    try:
        tree = parse_device_tree(firmware.tree)
    except BadDeviceTree as error:
        return Unknown(error.message)
    chosen = tree.root.child("chosen") or Node("chosen")
    start, size = chosen.number(MAP_START), chosen.number(MAP_SIZE)
    if start is None or firmware.efi is None:
        return _of_tree(tree) or Unknown("the device tree names no memory")
    if isinstance(loads, Unknown):
        return loads
    if not size or size > MAP_MAX:
        return Unknown(f"the memory map of EFI has {size} bytes")
    raw = physical(root, loads, start, size)
    if isinstance(raw, Unknown):
        return raw
    found = _of_map(raw, chosen.number(DESCRIPTOR_SIZE) or 0)
    return found or Unknown("the memory map of EFI names no memory")


def _of_tree(tree: DeviceTree) -> RangeSet:
    """drivers/of/fdt.c:early_init_dt_scan_memory."""
    nodes = [node for node in tree.root.children if node.is_memory and node.is_available]
    values = [node.get("linux,usable-memory") or node.get("reg") for node in nodes]
    return _ranges(pair for value in values for pair in address_ranges(value, tree.root.cells))


def _of_map(raw: bytes, each: int) -> RangeSet:
    """drivers/firmware/efi/efi-init.c:reserve_regions."""
    if each < DESCRIPTOR.size:
        return RangeSet()
    last = len(raw) - DESCRIPTOR.size
    entries = [DESCRIPTOR.unpack_from(raw, at) for at in range(0, last + 1, each)]
    return _ranges(
        (start, pages * EFI_PAGE) for _, start, pages, attribute in entries if attribute & CACHED
    )


def _ranges(pairs: Iterable[tuple[int, int]]) -> RangeSet:
    """Without ranges that are empty or reach beyond 64 bits, in whole pages of every size."""
    return RangeSet.of(
        PhysRange.sized(start, size).outward(LARGEST_PAGE)
        for start, size in pairs
        if size and start + size <= END - LARGEST_PAGE
    )
