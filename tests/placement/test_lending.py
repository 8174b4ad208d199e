"""Which memory blocks a window is put into."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.machine import Machine, Unknown
from pykexec.memory.blocks import MemoryBlock, MemoryBlocks, PageKinds
from pykexec.memory.map import MemoryMap
from pykexec.memory.ranges import PhysRange, RangeSet
from pykexec.placement.lending import (
    PLACES_MAX,
    kernel_memory_left,
    lending_warnings,
    places,
    why_not_lend,
)
from pykexec.placement.x86.layout import ABOVE_16_MIB
from tests.blocks import blocks_of, machine_of, map_of
from tests.builders import GIB, MIB
from tests.conftest import Golden

TIB = 1 << 40
WINDOW = 176 * MIB


def driven(machine: Machine, *spans: tuple[int, int]) -> Machine:
    """With memory that virtio-mem added."""
    theirs = RangeSet.of(PhysRange(*span) for span in spans)
    found = machine.known_map
    return replace(machine, memory_map=MemoryMap(found.ranges, theirs))


def with_state(machine: Machine, state: str, *numbers: int) -> Machine:
    assert isinstance(machine.memory_blocks, MemoryBlocks)
    found = machine.memory_blocks
    changed = tuple(
        replace(block, state=state) if block.number in numbers else block for block in found.blocks
    )
    return replace(machine, memory_blocks=replace(found, blocks=changed))


MACHINES: dict[str, Machine] = {
    "512 MiB": machine_of(512 * MIB),
    "1 GiB": machine_of(GIB),
    "1 GiB, kernel in the middle": machine_of(GIB, kernel=0x20000000),
    "2 GiB": machine_of(2 * GIB),
    "4 GiB": machine_of(4 * GIB),
    "16 GiB, two nodes": machine_of(16 * GIB, nodes=2),
    "16 GiB, movablecore": machine_of(16 * GIB, movable=((15 * GIB, 17 * GIB),)),
    "4 GiB, two blocks movable": machine_of(4 * GIB, movable=((GIB, GIB + 256 * MIB),)),
    "4 GiB, one block movable": machine_of(4 * GIB, movable=((GIB, GIB + 128 * MIB),)),
    "64 GiB, blocks of 256 MiB": machine_of(64 * GIB, 256 * MIB),
    "64 GiB, blocks of 1 GiB": machine_of(64 * GIB, GIB),
    "64 GiB, blocks of 2 GiB": machine_of(64 * GIB, 2 * GIB),
    "2 TiB, blocks of 2 GiB": machine_of(2 * TIB, 2 * GIB, nodes=4),
    "4 GiB, half of it virtio-mem": driven(
        machine_of(4 * GIB, movable=((4 * GIB, 5 * GIB),)), (4 * GIB, 5 * GIB)
    ),
    "1 GiB, five blocks offline": with_state(machine_of(GIB), "offline", 2, 3, 4, 5, 6),
    "1 GiB, every other block offline": with_state(machine_of(GIB), "offline", 2, 4, 6),
    "1 GiB, blocks of 2 GiB": machine_of(GIB, 2 * GIB),
}


def shown(machine: Machine) -> str:
    found = places(machine, WINDOW, ABOVE_16_MIB)
    blocks = machine.memory_blocks
    assert isinstance(blocks, MemoryBlocks)
    if not found.places:
        return found.why_none(WINDOW)
    lines = [f"{len(found.places)} places"]
    for place in found.places[:3]:
        convert = ", ".join(f"{block.name} of {block.zone}" for block in place.to_convert)
        left = kernel_memory_left(blocks, place.window) // MIB
        lines.append(f"{place.window} convert {convert or 'nothing'}; {left} MiB for the kernel")
    return "\n  ".join([*lines, *lending_warnings(machine, found.places[0].window)])


def test_golden_table(golden: Golden) -> None:
    golden(
        "lending.txt", "".join(f"{name}: {shown(machine)}\n" for name, machine in MACHINES.items())
    )


@pytest.mark.parametrize("name", MACHINES)
def test_the_kernel_keeps_half_and_a_block_of_each_zone(name: str) -> None:
    machine = MACHINES[name]
    blocks = machine.memory_blocks
    assert isinstance(blocks, MemoryBlocks)
    online = [block for block in blocks.blocks if block.state == "online"]
    for place in places(machine, WINDOW, ABOVE_16_MIB).places:
        assert all(block.range.overlaps(place.window) for block in place.blocks)
        assert RangeSet.of(block.range for block in place.blocks).covers(place.window)
        if place.to_convert:
            assert kernel_memory_left(blocks, place.window) * 2 >= len(online) * blocks.size
            left = Counter((b.node, b.zone) for b in online if b not in place.to_convert)
            assert all(left[b.node, b.zone] for b in place.to_convert)


def test_a_refused_block_is_in_no_place() -> None:
    machine = MACHINES["2 GiB"]
    first = places(machine, WINDOW, ABOVE_16_MIB).places[0]
    others = places(machine, WINDOW, ABOVE_16_MIB, refused=[first.blocks[0].number])
    assert others.places
    assert all(first.blocks[0] not in place.blocks for place in others.places)


def test_a_block_with_huge_pages_of_ours_is_not_converted() -> None:
    machine = MACHINES["2 GiB"]
    first = places(machine, WINDOW, ABOVE_16_MIB).places[0]
    ours = RangeSet((PhysRange.sized(first.window.start + 64 * MIB, 2 * MIB),))
    others = places(machine, WINDOW, ABOVE_16_MIB, ours)
    assert others.places
    assert not any(ours.overlaps(b.range) for place in others.places for b in place.blocks)


def test_the_users_bounds() -> None:
    machine = MACHINES["2 GiB"]
    inside = PhysRange(0x21000000, 0x21000000 + WINDOW)
    (only,) = places(machine, WINDOW, inside).places
    assert only.window == inside
    assert [block.number for block in only.blocks] == [4, 5]
    assert not places(machine, WINDOW, PhysRange(0x21000000, 0x22000000)).places


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"balloons": ("virtio_balloon",)}, "virtio_balloon"),
        ({"balloons": Unknown("hidden")}, "hidden"),
        ({"memory_blocks": Unknown("no CONFIG_MEMORY_HOTREMOVE")}, "HOTREMOVE"),
    ],
)
def test_what_no_block_can_help(change: dict[str, object], word: str) -> None:
    machine = MACHINES["2 GiB"]
    assert why_not_lend(machine) is None
    why = why_not_lend(replace(machine, **change))  # type: ignore[arg-type]
    assert why
    assert word in why


def test_compressed_swap_is_warned_of() -> None:
    machine = replace(MACHINES["2 GiB"], swap_in_memory=("zram0",))
    (warning,) = lending_warnings(machine, PhysRange(GIB, GIB + WINDOW))
    assert "zram0" in warning


def test_memory_of_512_gib_costs_no_more_than_its_blocks() -> None:
    machine = machine_of(512 * GIB)
    assert len(places(machine, WINDOW, ABOVE_16_MIB).places) == PLACES_MAX


def test_kinds_that_forbid_a_block() -> None:
    assert not PageKinds(free=1, user=2, cache=3, huge=4, other=5).unmovable
    assert PageKinds(slab=2, reserved=1).unmovable == "2 slab pages, 1 reserved pages"


@given(
    st.integers(2, 64).map(lambda n: n * 128 * MIB),
    st.sampled_from((128 * MIB, 256 * MIB, GIB)),
    st.lists(
        st.sampled_from(("Movable", "DMA32", "Normal", "DMA", "none", "offline")), min_size=64
    ),
    st.integers(1, 700).map(lambda n: n * 2 * MIB),
)
def test_law_every_place_is_whole_online_ram(
    memory: int, block: int, zones: list[str], size: int
) -> None:
    found = blocks_of(map_of(memory), block)
    changed = tuple(
        MemoryBlock(b.number, b.size, "offline") if zone == "offline" else replace(b, zones=(zone,))
        for b, zone in zip(found.blocks, zones, strict=False)
    )
    machine = replace(machine_of(memory, block), memory_blocks=MemoryBlocks(block, changed))
    for place in places(machine, size, ABOVE_16_MIB).places:
        assert place.window.size == size
        assert machine.known_map.whole_page_ram(4096).covers(place.window)
        assert not (machine.kernel_image or RangeSet()).overlaps(place.window)
        touched = [b for b in changed if b.range.overlaps(place.window)]
        assert tuple(touched) == place.blocks
        assert all(b.zone in ("Movable", "DMA32", "Normal") for b in touched)
