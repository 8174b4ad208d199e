"""Memory maps, and the two sources that they are read from."""

from __future__ import annotations

import pytest

from pykexec.memory import firmware_memmap, iomem
from pykexec.memory.map import MemoryMap, MemoryRange, RangeType
from pykexec.memory.ranges import PhysRange, RangeSet
from tests.builders import iomem_line, ram, reserved

IOMEM = (
    iomem_line(0, 0xFFF, "Reserved")
    + iomem_line(0x1000, 0x9FBFF, "System RAM")
    + iomem_line(0x9FC00, 0x9FFFF, "Reserved")
    + iomem_line(0x100000, 0x7FFDFFFF, "System RAM")
    + iomem_line(0x1000000, 0x1FFFFFF, "Kernel code", 1)
    + iomem_line(0x6F000000, 0x7EFFFFFF, "Crash kernel", 1)
    + iomem_line(0x7FFE0000, 0x7FFFFFFF, "ACPI Tables")
    + iomem_line(0xFEE00000, 0xFEE00FFF, "Local APIC")
    + iomem_line(0x100000000, 0x17FFFFFFF, "System RAM")
)


def test_iomem_becomes_a_map_with_half_open_ranges() -> None:
    found = iomem.memory_map(iomem.parse_iomem(IOMEM))
    assert found.ram == RangeSet.of(
        [PhysRange(0x1000, 0x9FC00), PhysRange(0x100000, 0x7FFE0000), PhysRange(1 << 32, 6 << 30)]
    )
    assert found.whole_page_ram(4096).ranges[0] == PhysRange(0x1000, 0x9F000)
    assert [str(item.type) for item in found.firmware] == ["Reserved", "Reserved", "ACPI Tables"]


def test_ram_that_a_driver_added_is_for_the_dump_only() -> None:
    plugged = (
        iomem_line(0x200000000, 0x2FFFFFFFF, "virtio0")
        + iomem_line(0x210000000, 0x217FFFFFF, "System RAM (virtio_mem)", 1)
        + iomem_line(0x300000000, 0x33FFFFFFF, "Persistent Memory")
        + iomem_line(0x300000000, 0x33FFFFFFF, "dax0.0", 1)
        + iomem_line(0x300000000, 0x33FFFFFFF, "System RAM (kmem)", 2)
    )
    before = iomem.memory_map(iomem.parse_iomem(IOMEM))
    found = iomem.memory_map(iomem.parse_iomem(IOMEM + plugged))
    added = [PhysRange(0x210000000, 0x218000000), PhysRange(0x300000000, 0x340000000)]
    assert found.driver_ram == RangeSet.of(added)
    assert found.whole_page_ram(4096) == before.whole_page_ram(4096)
    assert found.old_memory(4096) == before.whole_page_ram(4096) | RangeSet.of(added)
    persistent = MemoryRange(added[1], RangeType.PMEM)
    assert found.firmware == (*before.firmware, persistent), "the next kernel is told"


def test_nested_lines_are_found_by_name() -> None:
    lines = iomem.parse_iomem(IOMEM)
    assert iomem.named(lines, "Crash kernel").ranges == (PhysRange(0x6F000000, 0x7F000000),)
    assert [line.depth for line in lines if line.name == "Kernel code"] == [1]


def test_hidden_addresses_are_no_map() -> None:
    hidden = iomem_line(0, 0, "System RAM") + iomem_line(0, 0, "Crash kernel", 1)
    assert iomem.parse_iomem(hidden) == ()


@pytest.mark.parametrize(
    "line",
    ["garbage", "2000-1000 : System RAM", "zz-10 : System RAM", "1000-2000: System RAM", "\0" * 99],
    ids=["garbage", "reversed", "no hex", "no space", "zeros"],
)
def test_a_line_that_is_none_is_left_out(line: str) -> None:
    assert len(iomem.parse_iomem(line + "\n" + iomem_line(0x1000, 0x1FFF, "System RAM"))) == 1


def test_firmware_entries_have_inclusive_ends() -> None:
    found = firmware_memmap.memory_map(
        [
            ("0x0\n", "0x9fbff\n", "System RAM\n"),
            ("0x9fc00", "0x9ffff", "something new"),
            ("x", "", ""),
        ]
    )
    assert found.ranges == (*ram((0, 0x9FC00)), *reserved((0x9FC00, 0xA0000)))


def test_what_is_reserved_by_one_entry_is_not_ram() -> None:
    #  RAM       ##########
    #  Reserved     ###
    #  ACPI           ##
    found = MemoryMap.of(
        [
            *ram((0, 10)),
            *reserved((3, 6)),
            MemoryRange(PhysRange(5, 7), RangeType.ACPI),
        ]
    )
    assert [(r.range.start, r.range.end, r.type) for r in found.ranges] == [
        (0, 3, RangeType.RAM),
        (3, 5, RangeType.RESERVED),
        (5, 7, RangeType.ACPI),
        (7, 10, RangeType.RAM),
    ]


def test_touching_ranges_of_one_type_are_one() -> None:
    assert MemoryMap.of(ram((0, 5), (5, 9))).ranges == tuple(ram((0, 9)))


def test_what_no_processor_reaches_is_cut_off() -> None:
    top = (1 << 64) - 1
    found = firmware_memmap.memory_map(
        [("0x1000", "0x1fff", "System RAM"), ("0x8000", hex(top), "System RAM")]
    )
    assert found.ram.ranges[-1] == PhysRange.from_inclusive(0x8000, top)
    assert found.reachable.ram.ranges == (PhysRange(0x1000, 0x2000), PhysRange(0x8000, 1 << 52))
    assert found.out_of_reach == RangeSet((PhysRange(1 << 52, 1 << 64),))
    assert found.reachable.out_of_reach == RangeSet()
    assert found.reachable.reachable == found.reachable
