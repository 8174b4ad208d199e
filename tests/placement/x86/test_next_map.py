"""The memory map that a normal load passes on, whatever memory options the running kernel has."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest

from pykexec.images.contents import contents_bytes
from pykexec.images.identify import identify
from pykexec.machine import Machine, PcFirmware, Unknown
from pykexec.memory.map import MemoryMap, MemoryRange, RangeType
from pykexec.memory.ranges import PhysRange, RangeSet
from pykexec.placement.plan import PlacementPlan
from pykexec.placement.plan_load import plan_load
from pykexec.placement.request import ImageKind, LoadRequest
from pykexec.placement.x86.next_map import next_map_warnings, next_memory_map
from tests.builders import (
    GIB,
    MIB,
    make_bzimage,
    make_elf,
    make_machine,
    make_multiboot,
    multiboot2_header,
    multiboot_header,
    ram,
    reserved,
    write,
)
from tests.placement import names

FIRMWARE = MemoryMap.of(
    [
        *ram((0, 0x9FC00), (MIB, 3 * GIB), (4 * GIB, 16 * GIB)),
        *reserved((0x9FC00, 0xA0000), (0xF0000, MIB)),
    ]
)
CUT = MemoryMap.of(
    [*ram((0x1000, 0x9FC00), (MIB, GIB)), *reserved((0x9FC00, 0xA0000), (0xF0000, MIB))]
)
"""/proc/iomem with mem=1G."""


def cut_machine(cmdline: str = "root=/dev/vda1 mem=1G") -> Machine:
    return replace(make_machine(CUT, cmdline=cmdline), firmware=PcFirmware(memory_map=FIRMWARE))


def planned(folder: Path, data: bytes, kind: str | None = None, **wishes: object) -> PlacementPlan:
    image = identify(write(folder, "k", data), kind)
    return plan_load(image, cut_machine(), LoadRequest(**wishes))  # type: ignore[arg-type]


def raw(plan: PlacementPlan, name: str) -> bytes:
    item = plan.named(name)
    assert item is not None
    assert item.contents is not None
    return contents_bytes(item.contents, MIB)


def e820(page: bytes) -> list[tuple[int, int, int]]:
    return list(struct.iter_unpack("<QQI", page[0x2D0 : 0x2D0 + 20 * page[0x1E8]]))


EXPECTED = [
    (item.range.start, item.range.size, 1 if item.type is RangeType.RAM else 2)
    for item in FIRMWARE.ranges
]


@pytest.mark.parametrize("kind", [None, "bzImage"])
def test_e820_is_the_firmwares(tmp_path: Path, kind: str | None) -> None:
    """By the 64-bit and the 32-bit entry; everything is placed in memory that the running kernel
    uses."""
    plan = planned(tmp_path, make_bzimage(), kind)
    assert e820(raw(plan, names.BOOT_PARAMS)) == EXPECTED
    assert plan.next_map == FIRMWARE
    assert plan.memory_map == CUT
    assert all(CUT.ram.covers(item.range) for item in plan)


@pytest.mark.parametrize("version", [1, 2])
def test_so_is_the_map_of_multiboot(tmp_path: Path, version: int) -> None:
    header = multiboot_header() if version == 1 else multiboot2_header()
    plan = planned(tmp_path, make_multiboot(header))
    assert plan.next_map == FIRMWARE
    information = raw(plan, names.MULTIBOOT_INFO)
    for start, size, kind in EXPECTED:
        assert struct.pack("<QQI", start, size, kind) in information


def test_an_image_that_is_given_no_map(tmp_path: Path) -> None:
    assert planned(tmp_path, make_elf()).next_map == MemoryMap(())
    plan = planned(tmp_path, make_bzimage(), "bzImage", real_mode=True)
    assert plan.next_map == MemoryMap(())
    assert planned(tmp_path, make_multiboot(multiboot_header(0))).next_map == MemoryMap(())


def test_a_map_with_more_entries_than_the_zero_page(tmp_path: Path) -> None:
    holes = [(n * MIB, n * MIB + 0x1000) for n in range(1024, 1024 + 300, 2)]
    firmware = MemoryMap.of([*FIRMWARE.ranges, *reserved(*holes)])
    machine = replace(cut_machine(), firmware=PcFirmware(memory_map=firmware))
    image = identify(write(tmp_path, "k", make_bzimage()))
    plan = plan_load(image, machine, LoadRequest())
    page = raw(plan, names.BOOT_PARAMS)
    rows = e820(page)
    assert len(rows) == 128
    rest = len(firmware.ranges) - 128
    at = struct.unpack_from("<Q", page, 0x250)[0] - plan.named(names.BOOT_PARAMS).range.start  # type: ignore[union-attr]
    _, kind, size = struct.unpack_from("<QII", page, at)
    assert (kind, size) == (1, 20 * rest)
    rows += struct.iter_unpack("<QQI", page[at + 16 : at + 16 + size])
    assert [row[0] for row in rows] == [item.range.start for item in firmware.ranges]


def test_a_capture_kernel_stays_confined(tmp_path: Path) -> None:
    image = identify(write(tmp_path, "k", make_bzimage()))
    region = PhysRange(256 * MIB, 512 * MIB)
    machine = replace(cut_machine(), crash_kernel=RangeSet((region,)))
    for kind in (ImageKind.CRASH, ImageKind.CRASH_BY_NORMAL):
        plan = plan_load(image, machine, LoadRequest(kind=kind))
        assert plan.window is not None
        assert not plan.next_map.ram - RangeSet.of((plan.window, PhysRange(0, MIB)))


def test_without_the_firmwares_map_it_is_the_running_kernels_and_that_is_a_warning() -> None:
    machine = replace(cut_machine(), firmware=PcFirmware(memory_map=Unknown("no such folder")))
    assert next_memory_map(machine) == CUT
    (warning,) = next_map_warnings(machine)
    assert "mem=1G of the running kernel" in warning
    assert "no such folder" in warning
    assert not [*next_map_warnings(cut_machine())]
    assert not [*next_map_warnings(replace(machine, cmdline="root=/dev/vda1"))]


def test_ram_that_only_efi_told_of() -> None:
    """add_efi_memmap: it is in /proc/iomem, but not in the firmware's e820 map."""
    more = MemoryMap.of([*CUT.ranges, *ram((16 * GIB, 32 * GIB)), *reserved((3 * GIB, 4 * GIB))])
    machine = replace(cut_machine("mem=64G add_efi_memmap"), memory_map=more)
    found = next_memory_map(machine)
    assert found.ram == FIRMWARE.ram | RangeSet((PhysRange(16 * GIB, 32 * GIB),))
    assert found.of_type(RangeType.RESERVED).covers(PhysRange(3 * GIB, 4 * GIB))
    without = replace(machine, cmdline="mem=64G")
    assert next_memory_map(without) == FIRMWARE


def test_ram_that_the_user_added_is_neither_handed_on_nor_used(tmp_path: Path) -> None:
    """memmap=1G@20G: if it existed, the firmware would list it."""
    added = MemoryMap.of([*CUT.ranges, *ram((20 * GIB, 21 * GIB))])
    machine = replace(cut_machine("memmap=1G@20G"), memory_map=added)
    image = identify(write(tmp_path, "k", make_bzimage()))
    plan = plan_load(image, machine, LoadRequest())
    assert plan.next_map == FIRMWARE
    assert all(item.range.end <= GIB for item in plan)


def test_what_the_user_reserved_is_handed_on_and_not_used(tmp_path: Path) -> None:
    """memmap=64M$960M: the next kernel gets the firmware's map, as after a boot."""
    hole = PhysRange(960 * MIB, GIB)
    spared = MemoryMap.of([*CUT.ranges, MemoryRange(hole, RangeType.RESERVED)])
    machine = replace(cut_machine("memmap=64M$960M"), memory_map=spared)
    image = identify(write(tmp_path, "k", make_bzimage()))
    plan = plan_load(image, machine, LoadRequest())
    assert plan.next_map == FIRMWARE
    assert not any(item.range.overlaps(hole) for item in plan)


def test_ram_of_a_driver_is_detected_again() -> None:
    added = RangeSet((PhysRange(40 * GIB, 41 * GIB),))
    machine = replace(cut_machine(), memory_map=MemoryMap(CUT.ranges, added))
    assert next_memory_map(machine) == FIRMWARE
    alone = replace(machine, firmware=PcFirmware(memory_map=Unknown("no")))
    assert next_memory_map(alone) == CUT


def test_an_assumed_map_stands_alone() -> None:
    machine = replace(
        cut_machine("add_efi_memmap"), memory_map=Unknown("hidden"), totalram=2 * GIB
    ).with_assumed_map()
    assert next_memory_map(machine) == machine.known_map


def test_ram_out_of_reach_is_a_warning() -> None:
    far = RangeSet((PhysRange(1 << 52, 1 << 60),))
    (warning,) = next_map_warnings(replace(cut_machine(), out_of_reach=far))
    assert warning == (
        "RAM above 2^52, which no x86 processor can address, is omitted from the memory "
        "map: 0x10000000000000..0x1000000000000000"
    )
