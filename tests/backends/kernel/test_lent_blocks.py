"""Blocks become movable for a window, and are restored, whatever happens meanwhile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pykexec.backends.kernel.lent_blocks import LentBlocks
from pykexec.machine import Machine
from pykexec.memory.blocks import PageKinds
from pykexec.memory.ranges import PhysRange, RangeSet
from pykexec.placement.lending import NoMovableMemory
from pykexec.placement.x86.layout import ABOVE_16_MIB
from tests.backends.kernel.block_machine import KilledError, ModelBlocks
from tests.blocks import machine_of
from tests.builders import GIB, MIB

WINDOW = 176 * MIB
NOTHING = RangeSet()


@pytest.fixture
def machine() -> Machine:
    return machine_of(2 * GIB)


@pytest.fixture
def model(machine: Machine) -> ModelBlocks:
    return ModelBlocks.of(machine)


def window(lent: LentBlocks, machine: Machine) -> PhysRange:
    return lent.window(machine, WINDOW, ABOVE_16_MIB, NOTHING)


def test_two_blocks_and_back(tmp_path: Path, machine: Machine, model: ModelBlocks) -> None:
    before = model.found
    lent = LentBlocks(tmp_path, model)
    found = window(lent, machine)
    assert found == PhysRange.sized(13 * 128 * MIB, WINDOW)
    assert [b.number for b in model.found.blocks if b.is_movable] == [13, 14]
    assert lent.problem(found) is None
    assert lent.give_back() == ()
    assert model.found == before
    assert not list(tmp_path.iterdir())


def test_a_refused_block_leads_to_others(
    tmp_path: Path, machine: Machine, model: ModelBlocks
) -> None:
    """The block that was converted beside the refused one is used, or restored."""
    model.pinned = {14, 12}
    lent = LentBlocks(tmp_path, model)
    found = window(lent, machine)
    assert not {block.number for block in model.found.touching(found)} & model.pinned
    lent.give_back(keep=[found])
    movable = [block for block in model.found.blocks if block.is_movable]
    assert movable == list(model.found.touching(found))
    model.pinned = set()
    lent.give_back()
    assert not [block for block in model.found.blocks if block.is_movable]


def test_none_can_be_had(tmp_path: Path, machine: Machine, model: ModelBlocks) -> None:
    before = model.found
    model.pinned = set(range(16))
    lent = LentBlocks(tmp_path, model)
    with pytest.raises(NoMovableMemory, match="that cannot be made movable now") as caught:
        window(lent, machine)
    assert any("busy" in text for text in caught.value.details)
    assert lent.give_back() == ()
    assert model.found == before


@pytest.mark.parametrize(
    "kinds",
    [
        PageKinds(free=1, slab=1),
        PageKinds(page_tables=1),
        PageKinds(reserved=512),
        PageKinds(offline=3),
        PageKinds(poisoned=1),
        PageKinds(missing=1),
        PageKinds(huge=512),
    ],
)
def test_a_block_that_holds_such_pages_is_not_touched(
    tmp_path: Path, machine: Machine, model: ModelBlocks, kinds: PageKinds
) -> None:
    model.bad = {14: kinds}
    found = window(LentBlocks(tmp_path, model), machine)
    assert 14 not in {block.number for block in model.found.touching(found)}
    assert 14 not in {number for number, _ in model.written}


def test_a_movable_block_with_a_memmap_of_its_own(tmp_path: Path) -> None:
    """memmap_on_memory: valid_zones shows Movable, but the block has reserved pages."""
    machine = machine_of(2 * GIB, movable=((GIB, GIB + 256 * MIB),))
    model = ModelBlocks.of(machine)
    model.bad = {8: PageKinds(reserved=512)}
    found = window(LentBlocks(tmp_path, model), machine)
    assert 8 not in {block.number for block in model.found.touching(found)}


def test_huge_pages_in_movable_memory_do_no_harm(tmp_path: Path) -> None:
    """Nothing takes such a block offline."""
    machine = machine_of(2 * GIB, movable=((GIB, GIB + 256 * MIB),))
    model = ModelBlocks.of(machine)
    model.bad = {8: PageKinds(huge=512)}
    assert window(LentBlocks(tmp_path, model), machine) == PhysRange.sized(GIB, WINDOW)


def test_what_the_kernel_answers_is_read_back(
    tmp_path: Path, machine: Machine, model: ModelBlocks
) -> None:
    model.lies = {14}
    found = window(LentBlocks(tmp_path, model), machine)
    assert 14 not in {block.number for block in model.found.touching(found)}


def test_movable_memory_of_others_is_used_and_left(tmp_path: Path) -> None:
    machine = machine_of(2 * GIB, movable=((GIB, GIB + 256 * MIB),))
    model = ModelBlocks.of(machine)
    before = model.found
    lent = LentBlocks(tmp_path, model)
    assert window(lent, machine) == PhysRange.sized(GIB, WINDOW)
    assert lent.give_back() == ()
    assert (model.found, model.written) == (before, [])


def test_a_busy_block_is_given_back_next_time(
    tmp_path: Path, machine: Machine, model: ModelBlocks
) -> None:
    before = model.found
    lent = LentBlocks(tmp_path, model)
    window(lent, machine)
    model.pinned = {13}
    assert [block.number for block in lent.give_back()] == [13]
    assert [block.number for block in LentBlocks(tmp_path, model).changed] == [13]
    model.pinned = set()
    assert LentBlocks(tmp_path, model).give_back() == ()
    assert model.found == before


def test_a_block_that_was_removed_is_forgotten(
    tmp_path: Path, machine: Machine, model: ModelBlocks
) -> None:
    lent = LentBlocks(tmp_path, model)
    found = window(lent, machine)
    model.found = type(model.found)(model.found.size, model.found.blocks[:10])
    assert "is gone" in str(lent.problem(found))
    assert lent.give_back() == ()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("number", "state", "word"),
    [(14, "offline", "memory14: it is offline"), (13, "online_kernel", "in zone DMA32")],
)
def test_a_block_that_others_change_is_noticed(
    tmp_path: Path, machine: Machine, model: ModelBlocks, number: int, state: str, word: str
) -> None:
    lent = LentBlocks(tmp_path, model)
    found = window(lent, machine)
    model.set_state(number, "offline", 1)
    if state != "offline":
        model.set_state(number, state, 1)
    assert word in str(lent.problem(found))


def test_pages_that_do_not_belong_there_are_noticed(
    tmp_path: Path, machine: Machine, model: ModelBlocks
) -> None:
    lent = LentBlocks(tmp_path, model)
    found = window(lent, machine)
    model.bad = {14: PageKinds(offline=512)}
    assert "512 offline pages" in str(lent.problem(found))


@pytest.mark.parametrize("kill_at", range(1, 9))
def test_killed_at_any_point(
    tmp_path: Path, machine: Machine, model: ModelBlocks, kill_at: int
) -> None:
    """Two blocks, each with two writes, before and after each of them."""
    before, steps = model.found, 0

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps >= kill_at:
            raise KilledError

    model.step = step
    with pytest.raises(KilledError):
        window(LentBlocks(tmp_path, model), machine)
    assert steps == kill_at
    model.step = lambda: None
    assert LentBlocks(tmp_path, model).give_back() == ()
    assert model.found == before
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kill_at", range(1, 9))
def test_killed_while_giving_back(
    tmp_path: Path, machine: Machine, model: ModelBlocks, kill_at: int
) -> None:
    before, steps = model.found, 0

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps >= kill_at:
            raise KilledError

    window(LentBlocks(tmp_path, model), machine)
    model.step = step
    with pytest.raises(KilledError):
        LentBlocks(tmp_path, model).give_back()
    model.step = lambda: None
    assert LentBlocks(tmp_path, model).give_back() == ()
    assert model.found == before


def test_a_block_that_is_going_offline_stays_in_the_journal(
    tmp_path: Path, machine: Machine, model: ModelBlocks
) -> None:
    """By another program: it would be forgotten, and stay offline."""
    before, lent = model.found, LentBlocks(tmp_path, model)
    window(lent, machine)
    going = replace(model.found.blocks[14], state="going-offline")
    model.put(going)
    assert [block.number for block in lent.give_back()] == [14]
    assert lent.left(NOTHING) == (going,)
    model.put(replace(going, state="offline"))
    assert lent.give_back() == ()
    assert model.found == before


def test_a_balloon_forbids_it(tmp_path: Path, model: ModelBlocks, machine: Machine) -> None:
    inflated = replace(machine, balloons=("virtio_balloon",))
    with pytest.raises(NoMovableMemory, match="virtio_balloon"):
        window(LentBlocks(tmp_path, model), inflated)
    assert model.written == []
