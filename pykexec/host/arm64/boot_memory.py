"""The memory that a kernel finds when it boots: by the memory map of EFI, otherwise by the device
tree. What was added later (ACPI memory hot-plug) is in neither, and the next kernel starts without
it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from pykexec.abi.devicetree import EFI_MEMORY_MAP, BadDeviceTree, Node, parse_device_tree
from pykexec.host.kernel_map import physical
from pykexec.machine import DeviceTreeFirmware, Unknown
from pykexec.memory.device_tree import memory_of_tree, whole_ranges
from pykexec.memory.ranges import RangeSet

if TYPE_CHECKING:
    from pykexec.host.kernel_map import KcoreLoad
    from pykexec.host.root import Root

MAP_SIZE, DESCRIPTOR_SIZE = "linux,uefi-mmap-size", "linux,uefi-mmap-desc-size"
"""Properties of /chosen (Documentation/arch/arm/uefi.rst)."""
MAP_MAX = 1 << 20
"""Limit in bytes for the map; that of a server has some 10 KiB."""
DESCRIPTOR = struct.Struct("<I4xQ8xQQ")
"""efi_memory_desc_t: type, physical address, pages of 4 KiB, attribute."""
EFI_PAGE = 4096
CACHED = 0x2 | 0x4 | 0x8
"""EFI_MEMORY_WC, _WT and _WB: memory, whatever its type is (drivers/firmware/efi/efi-init.c:
is_memory)."""


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
    start, size = chosen.number(EFI_MEMORY_MAP), chosen.number(MAP_SIZE)
    if start is None or firmware.efi is None:
        return memory_of_tree(tree) or Unknown("the device tree names no memory")
    if isinstance(loads, Unknown):
        return loads
    if not size or size > MAP_MAX:
        return Unknown(f"the memory map of EFI has {size} bytes")
    raw = physical(root, loads, start, size)
    if isinstance(raw, Unknown):
        return raw
    found = _of_map(raw, chosen.number(DESCRIPTOR_SIZE) or 0)
    return found or Unknown("the memory map of EFI names no memory")


def _of_map(raw: bytes, each: int) -> RangeSet:
    """drivers/firmware/efi/efi-init.c:reserve_regions."""
    if each < DESCRIPTOR.size:
        return RangeSet()
    last = len(raw) - DESCRIPTOR.size
    entries = [DESCRIPTOR.unpack_from(raw, at) for at in range(0, last + 1, each)]
    return whole_ranges(
        (start, pages * EFI_PAGE) for _, start, pages, attribute in entries if attribute & CACHED
    )
