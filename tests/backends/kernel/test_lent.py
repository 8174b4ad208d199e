"""Mode lent on a model of a machine: what it holds, what it changes, and what is as before."""

from __future__ import annotations

from pathlib import Path

import pytest

from pykexec.abi.hugetlb import HUGE_PAGE_SIZE
from pykexec.backends.backend import Slot
from pykexec.backends.kernel.stage import NoRoomForStage
from pykexec.backends.kernel.staged import StageChanged
from pykexec.flows.load import LoadedPlan, load
from pykexec.images.contents import Built
from pykexec.memory.ranges import PhysRange, RangeSet
from pykexec.placement.bind import BoundPlan
from pykexec.placement.lending import NoMovableMemory
from pykexec.placement.plan import PanicPlan
from pykexec.placement.request import ImageKind, Keep, LoadRequest, Mode
from tests.backends.kernel.block_machine import ModelBlocks
from tests.backends.kernel.rig import HugeMemory, Killed, Rig
from tests.blocks import blocks_of
from tests.builders import MIB, make_bzimage, pc_map, write

CRASH_SIZE = 160 * MIB
INITRD = 5 * MIB


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """A machine of 1 GiB in blocks of 128 MiB; huge pages are available in the first half."""
    write(tmp_path, "vmlinuz", make_bzimage(bytes(3 * MIB), init_size=20 * MIB))
    found = Rig(tmp_path)
    found.calls.blocks = ModelBlocks(blocks_of(pc_map(), 128 * MIB))
    return found


def blocks(rig: Rig) -> ModelBlocks:
    assert rig.calls.blocks
    return rig.calls.blocks


def movable(rig: Rig) -> list[int]:
    return [block.number for block in blocks(rig).found.blocks if block.is_movable]


def arm(
    rig: Rig, *, mode: Mode | None = None, keep: Keep = Keep.KERNEL, replaces: bool = False
) -> LoadedPlan:
    wanted = LoadRequest(
        kind=ImageKind.CRASH_BY_NORMAL,
        initrd=Built(bytes(range(256)) * (INITRD // 256)),
        crash_size=CRASH_SIZE,
        mode=mode,
        keep=keep,
        replaces=replaces,
    )
    return load(rig.folder / "vmlinuz", rig.backend(), wanted)


def panic_plan(done: LoadedPlan) -> PanicPlan:
    assert isinstance(done.planned.plan, PanicPlan)
    return done.planned.plan


def bound(done: LoadedPlan) -> BoundPlan:
    assert done.bound
    return done.bound


def test_only_what_is_loaded_is_held(rig: Rig) -> None:
    before = blocks(rig).found
    plan = panic_plan(arm(rig))
    assert plan.mode is Mode.LENT
    loaded = sum(item.contents.size for item in plan if item.contents and item.name != "purgatory")
    held = rig.memory.total * HUGE_PAGE_SIZE
    assert held == plan.stage.ours.size
    assert loaded < held <= loaded + 6 * MIB
    assert plan.stage.lent.size == CRASH_SIZE - len(plan.stage.image) * HUGE_PAGE_SIZE
    assert movable(rig) == [5, 6]
    rig.backend().unload(Slot.CRASH)
    assert rig.as_found
    assert blocks(rig).found == before


def test_the_loaded_bytes_are_exchanged_with_their_slots(rig: Rig) -> None:
    done = arm(rig)
    plan, found = panic_plan(done), bound(done).backup_map
    moved = RangeSet.of(run.dest_range for run in found)
    for item in plan:
        if item.contents and item.name not in ("purgatory", "ELF core headers"):
            assert moved.covers(PhysRange.sized(item.range.start, item.contents.size)), item.name
    assert not moved & plan.stage.lent
    assert moved | plan.stage.lent | RangeSet() == moved | RangeSet((plan.window,))
    assert not any(RangeSet((plan.window,)).overlaps(run.source_range) for run in found)


def test_status_and_the_record_say_what_is_lent(rig: Rig) -> None:
    plan = panic_plan(arm(rig))
    record = rig.backend().check()
    assert record
    assert record.movable
    assert RangeSet(record.lent) == plan.stage.lent


@pytest.mark.parametrize("state", ["offline", "online_kernel"])
def test_a_block_that_others_change_is_a_problem(rig: Rig, state: str) -> None:
    arm(rig)
    blocks(rig).set_state(6, "offline", 1)
    if state != "offline":
        blocks(rig).set_state(6, state, 1)
    with pytest.raises(StageChanged, match="memory6"):
        rig.backend().check()
    rig.backend().unload(Slot.CRASH)
    assert movable(rig) == []


def test_a_balloon_driver_that_is_loaded_later_is_a_problem(rig: Rig) -> None:
    """Before the host takes anything back; the next load uses another mode."""
    before = blocks(rig).found
    arm(rig)
    blocks(rig).drivers = ("virtio_balloon",)
    with pytest.raises(StageChanged, match="virtio_balloon"):
        rig.backend().check()
    assert panic_plan(arm(rig, replaces=True)).mode is Mode.IN_PLACE
    assert rig.backend().check()
    assert blocks(rig).found == before


def test_the_blocks_are_verified_right_before_the_load(rig: Rig) -> None:
    """Somebody takes one offline while the image is put into the stage."""
    backend = rig.backend()
    calls = 0

    def meanwhile() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            blocks(rig).set_state(5, "offline", 1)

    backend.before_it_is_used = meanwhile  # type: ignore[method-assign]
    wanted = LoadRequest(kind=ImageKind.CRASH_BY_NORMAL, crash_size=CRASH_SIZE, mode=Mode.LENT)
    with pytest.raises(StageChanged, match="memory5: it is offline"):
        load(rig.folder / "vmlinuz", backend, wanted)
    assert calls
    assert rig.calls.armed is None
    assert rig.as_found
    assert movable(rig) == []


def test_without_movable_memory_it_falls_back(rig: Rig) -> None:
    blocks(rig).pinned = set(range(8))
    done = arm(rig)
    assert panic_plan(done).mode is Mode.IN_PLACE
    assert "no memory block could be made movable" in dict(done.granted.lacking)[Mode.LENT]
    assert movable(rig) == []


def test_what_was_asked_for_is_refused(rig: Rig) -> None:
    blocks(rig).pinned = set(range(8))
    with pytest.raises(NoMovableMemory):
        arm(rig, mode=Mode.LENT)
    assert rig.as_found


def test_an_armed_image_stays_when_no_block_can_be_had(rig: Rig) -> None:
    arm(rig, mode=Mode.IN_PLACE)
    armed = rig.calls.armed
    blocks(rig).pinned = set(range(8))
    with pytest.raises(NoMovableMemory):
        arm(rig, mode=Mode.LENT, replaces=True)
    assert rig.calls.armed == armed
    rig.backend().check()


def test_too_few_huge_pages_give_the_blocks_back(rig: Rig) -> None:
    rig.memory.buddy[:] = rig.memory.buddy[:3]
    with pytest.raises(NoRoomForStage):
        arm(rig, mode=Mode.LENT)
    assert rig.as_found
    assert movable(rig) == []


def test_a_replacement_uses_the_same_blocks(rig: Rig) -> None:
    first = panic_plan(arm(rig))
    written = len(blocks(rig).written)
    done = arm(rig, replaces=True)
    assert panic_plan(done).window == first.window
    assert done.granted.replaced
    assert done.granted.replaced.stayed_armed
    assert len(blocks(rig).written) == written
    rig.backend().check()
    rig.backend().unload(Slot.CRASH)
    assert rig.as_found
    assert movable(rig) == []


def test_replaced_by_another_mode_the_blocks_go_back(rig: Rig) -> None:
    arm(rig)
    arm(rig, mode=Mode.IN_PLACE, replaces=True)
    assert movable(rig) == []
    rig.backend().check()


def test_a_busy_block_is_reported_and_given_back_later(rig: Rig) -> None:
    arm(rig)
    blocks(rig).pinned = {5}
    backend = rig.backend()
    backend.unload(Slot.CRASH)
    assert [block.name for block in backend.left_blocks] == ["memory5"]
    assert movable(rig) == [5]
    blocks(rig).pinned = set()
    backend.unload(Slot.CRASH)
    assert not backend.left_blocks
    assert movable(rig) == []
    assert rig.as_found


def test_no_block_with_our_huge_pages_goes_offline(rig: Rig) -> None:
    """In any order of loads: the kernel would move the pages."""
    rig.memory.buddy[:] = HugeMemory.of(200, 5 * 128 * MIB).buddy  # in the blocks to be chosen

    def moved(span: PhysRange) -> None:
        held = {frame for pages in rig.pages for frame in pages.file.values()}
        assert not [frame for frame in held if frame in span]

    blocks(rig).moved = moved
    arm(rig, mode=Mode.IN_PLACE)
    arm(rig, mode=Mode.LENT, replaces=True)
    arm(rig, mode=Mode.LENT, replaces=True)
    rig.backend().check()
    rig.backend().unload(Slot.CRASH)
    assert rig.as_found


def test_stub_swap_takes_movable_memory_where_it_can(rig: Rig) -> None:
    done = arm(rig, mode=Mode.STUB_SWAP, keep=Keep.ALL)
    plan = panic_plan(done)
    assert plan.stage.movable
    assert not plan.stage.lent
    assert plan.stage.slots is None
    assert movable(rig) == [5, 6]
    warnings = " ".join((*plan.warnings, *done.granted.warnings))
    assert "sleep" not in warnings
    assert "DMA" not in warnings
    rig.backend().unload(Slot.CRASH)
    assert movable(rig) == []


def test_stub_swap_does_without(rig: Rig) -> None:
    blocks(rig).pinned = set(range(8))
    done = arm(rig, mode=Mode.STUB_SWAP, keep=Keep.ALL)
    assert not panic_plan(done).stage.movable
    warnings = " ".join((*panic_plan(done).warnings, *done.granted.warnings))
    assert "sleep" in warnings
    assert "DMA" in warnings


def test_keep_all_lends_nothing(rig: Rig) -> None:
    plan = panic_plan(arm(rig, keep=Keep.ALL))
    assert plan.mode is Mode.IN_PLACE
    assert not plan.stage.lent
    assert blocks(rig).written == []


def test_a_window_of_the_users_own(rig: Rig) -> None:
    wanted = LoadRequest(
        kind=ImageKind.CRASH_BY_NORMAL,
        mem_min=0x18000000,
        mem_max=0x22FFFFFF,
        mode=Mode.LENT,
    )
    done = load(rig.folder / "vmlinuz", rig.backend(), wanted)
    assert panic_plan(done).window == PhysRange(0x18000000, 0x23000000)
    assert movable(rig) == [3, 4]


def test_killed_at_any_point(tmp_path: Path) -> None:
    """The next program finds an image that is armed and complete, or releases everything."""
    last = steps_of(tmp_path / "whole", 0)
    for kill_at in range(1, last + 1, 3):
        steps_of(tmp_path / str(kill_at), kill_at)


def steps_of(folder: Path, kill_at: int) -> int:
    """The steps of a load that is killed at one of them; afterwards the remains are unloaded."""
    folder.mkdir()
    write(folder, "vmlinuz", make_bzimage(bytes(3 * MIB), init_size=20 * MIB))
    rig = Rig(folder)
    rig.calls.blocks = ModelBlocks(blocks_of(pc_map(), 128 * MIB), step=rig.memory.step)
    before = blocks(rig).found
    rig.memory.kill_at = kill_at
    if kill_at:
        with pytest.raises(Killed):
            arm(rig)
    else:
        arm(rig)
    steps, rig.memory.kill_at = rig.memory.steps, 0
    if rig.calls.armed:
        assert rig.backend().blocks.problem(PhysRange(0x28000000, 0x32000000)) is None
    rig.backend().unload(Slot.CRASH)
    assert rig.as_found, kill_at
    assert blocks(rig).found == before, kill_at
    return steps


def test_a_machine_without_blocks(tmp_path: Path) -> None:
    write(tmp_path, "vmlinuz", make_bzimage())
    done = arm(Rig(tmp_path))
    assert panic_plan(done).mode is Mode.IN_PLACE
    assert "this model has none" in done.granted.lacking[0][1]
