"""The layout of a new machine: a BIOS PC, filled according to a seed."""

from __future__ import annotations

import pytest

from pykexec.backends.simulated.kernel.layout import BadLayout, Layout, RelocateKernel
from pykexec.backends.simulated.store.new_machine import new_layout
from pykexec.errors import KexecError
from pykexec.machine import CpuNotes, Machine, NoteArea
from pykexec.memory.map import MemoryMap, MemoryRange, RangeType
from pykexec.memory.ranges import PhysRange, RangeSet
from tests.backends.simulated.machines import MIB, PAGE

GIB = 1 << 30
SIZES = [8 * MIB, 64 * MIB, 512 * MIB, GIB, 3 * GIB, 4 * GIB, 16 * GIB]


def rows(layout: Layout) -> list[tuple[int, int, str]]:
    return [
        (item.range.start, item.range.end, item.type.value) for item in layout.memory_map.ranges
    ]


def test_the_map_of_a_gibibyte() -> None:
    assert rows(new_layout(GIB)) == [
        (0x0, 0x1000, "Reserved"),
        (0x1000, 0x9FC00, "System RAM"),
        (0x9FC00, 0xA0000, "Reserved"),
        (0xF0000, 0x100000, "Reserved"),
        (0x100000, 0x3FFE0000, "System RAM"),
        (0x3FFE0000, 0x3FFF0000, "ACPI Tables"),
        (0x3FFF0000, 0x3FFF1000, "ACPI Non-volatile Storage"),
        (0x3FFF1000, 0x40000000, "Reserved"),
        (0xFEFFC000, 0xFF000000, "Reserved"),
        (0xFFFC0000, 0x100000000, "Reserved"),
    ]


def test_memory_above_the_pci_hole() -> None:
    layout = new_layout(4 * GIB)
    assert list(layout.memory_map.ram)[1:] == [
        PhysRange(0x100000, 0xBFFE0000),
        PhysRange(0x100000000, 0x140000000),
    ]
    assert layout.size == 0x140000000


@pytest.mark.parametrize("memory", SIZES)
@pytest.mark.parametrize("used", [0, 40, 100])
def test_so_much_is_in_use(memory: int, used: int) -> None:
    layout = new_layout(memory, used=used, seed=2)
    frames = layout.memory_map.whole_page_ram(4096)
    low = frames.within(PhysRange(0, MIB))
    assert not low - layout.in_use
    assert not layout.kernel_image - layout.in_use
    least = (low | layout.kernel_image).size
    most = frames.size - layout.kernel.size
    wanted = frames.size // PAGE * used // 100 * PAGE
    assert layout.in_use.size == min(max(least, wanted), most)
    assert len(layout.in_use) < 1 << 17


@pytest.mark.parametrize("memory", SIZES)
def test_the_kernel_image(memory: int) -> None:
    places = set()
    for seed in range(8):
        (image,) = new_layout(memory, seed=seed, used=0).kernel_image
        assert image.start % (2 * MIB) == 0
        if memory >= 512 * MIB:
            assert image.size == 48 * MIB
            assert image.start >= 16 * MIB
            assert image.end <= 4 * GIB
        places.add(image.start)
    if memory > 8 * MIB:
        assert len(places) > 1, "KASLR"


def test_runs_are_short_and_differ() -> None:
    layout = new_layout(GIB, seed=7)
    low = PhysRange(0, MIB)
    runs = [span.size // PAGE for span in layout.in_use - layout.kernel_image - RangeSet((low,))]
    assert 1 in runs
    assert sum(run <= 64 for run in runs) > 0.9 * len(runs), "few have grown together"
    assert len(set(runs)) > 40


def test_notes_lie_where_a_kernel_has_them() -> None:
    for seed in range(30):
        layout = new_layout(32 * MIB, seed=seed)
        assert [notes.cpu for notes in layout.cpus] == [0, 1]
        for notes in layout.cpus:
            assert notes.size == 368
            assert notes.addr // PAGE == (notes.addr + notes.size - 1) // PAGE
        assert layout.vmcoreinfo.size == 4096 + 36
        assert layout.vmcoreinfo.addr % PAGE == 0
        assert not layout.kernel & layout.in_use


@pytest.mark.parametrize("size", [64 << 10, 20000, 256 * MIB])
def test_crashkernel(size: int) -> None:
    layout = new_layout(4 * GIB, crashkernel=size)
    span = layout.reservation
    assert span
    assert span.start % (16 * MIB) == 0
    assert span.size == -(-size // PAGE) * PAGE
    assert span.end <= 4 * GIB, "top-down below 4 GiB"
    assert span.start >= 0xBE000000 - span.size
    assert not layout.in_use.within(span)
    assert layout.totalram == layout.memory_map.whole_page_ram(4096).size - span.size
    assert "crashkernel=" in layout.cmdline


def test_a_kernel_that_copies_is_a_later_one() -> None:
    assert new_layout(GIB).release == "6.1.0-simulated"
    assert new_layout(GIB, relocate=RelocateKernel.COPY).release == "6.14.0-simulated"


def test_a_captured_map() -> None:
    """RAM in odd pieces; the first page is still not used."""
    memory_map = MemoryMap.of(
        MemoryRange(PhysRange(*span), RangeType.RAM)
        for span in ((0, 0x9E400), (MIB, 7 * MIB + 0x800), (9 * MIB, 40 * MIB))
    )
    layout = new_layout(0, from_machine=Machine("captured", memory_map=memory_map))
    assert layout.memory_map.ram.ranges[0] == PhysRange(0x1000, 0x9E400)
    assert layout.size == 40 * MIB


NOTE = NoteArea(0x500000, 4132)
CPU = CpuNotes(0, 0x400000, 368)
WRONG: dict[str, tuple[dict[str, object], str]] = {
    "no RAM": ({"memory_map": MemoryMap(())}, "has no RAM"),
    "in use, no RAM": (
        {"in_use": RangeSet((PhysRange(0xA0000, 0xA1000),))}, "in use are not all RAM: 0xa0000..",
    ),
    "two owners": ({"in_use": RangeSet((PhysRange(0x400000, 0x401000),))}, "overlap others at"),
    "not whole frames": (
        {"in_use": RangeSet((PhysRange(0x600000, 0x600800),))}, "are not whole frames",
    ),
    "image not in use": (
        {"kernel_image": RangeSet((PhysRange(0x600000, 0x601000),))}, "image is not in use",
    ),
    "notes straddle": ({"cpus": (CpuNotes(0, 0x400F00, 368),)}, "straddle a page"),
    "too much": (
        {"memory_map": MemoryMap.of([MemoryRange(PhysRange(0x1000, 1 << 40), RangeType.RAM)])},
        "RAM ends at 0x10000000000",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_layout_that_cannot_be(name: str) -> None:
    fields, words = WRONG[name]
    good: dict[str, object] = {
        "memory_map": new_layout(32 * MIB).memory_map, "in_use": RangeSet(),
        "kernel_image": RangeSet(), "cpus": (CPU,), "vmcoreinfo": NOTE, "reservation": None,
        "release": "6.1", "cmdline": "",
    }  # fmt: skip
    with pytest.raises(BadLayout) as caught:
        Layout(**{**good, **fields})  # type: ignore[arg-type]
    assert words in caught.value.message
    assert isinstance(caught.value, KexecError)
