"""Any process may map huge pages, and one that does so all the time is faster: the stage is still
allocated, or the error names the process that has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pykexec.backends.kernel.journal import Journal
from pykexec.backends.kernel.runs import Wanted
from pykexec.backends.kernel.stage import LOST_MAX, NoRoomForStage, held_by, release, take
from pykexec.machine import HugePageUser
from tests.backends.kernel.rig import HugeMemory, Pages

WANTED = Wanted(run=32, singles=2)


def machine(quick: int, wants: int, count: int = 2000) -> Pages:
    memory = HugeMemory.of(count)
    memory.thief_is_quick, memory.thief_wants = quick, wants
    return Pages(memory)


def nothing_of_ours(pages: Pages) -> bool:
    """The pool has its old size, and the thief's pages are freed when it ends."""
    memory = pages.memory
    memory.thief_is_quick = 0
    if pages.file or pages.mounted or memory.overcommit or memory.pool:
        return False
    for frame in memory.stolen:
        memory.free(frame)
    return memory.total == 0


@pytest.mark.parametrize("quick", [1, 2, 5])
@pytest.mark.parametrize("wants", [1, 4, 64])
def test_the_stage_is_taken(tmp_path: Path, quick: int, wants: int) -> None:
    pages, journal = machine(quick, wants), Journal(tmp_path)
    stage = take(pages, journal, WANTED, limit=1000)
    assert stage.run is not None
    assert len(stage.index) == WANTED.pages
    assert not set(stage.index) & set(pages.memory.stolen)
    release(pages, journal)
    assert nothing_of_ours(pages)


def test_what_others_can_take_meanwhile_is_bounded(tmp_path: Path) -> None:
    """Otherwise they could take all memory, which no OOM killer frees."""
    pages, journal = machine(2, 3), Journal(tmp_path)
    take(pages, journal, WANTED, limit=1000)
    assert 0 < len(pages.memory.stolen) <= LOST_MAX
    release(pages, journal)
    assert nothing_of_ours(pages)


def test_who_has_them_is_said(tmp_path: Path) -> None:
    pages, journal = machine(9, 1, count=50), Journal(tmp_path)
    with pytest.raises(NoRoomForStage) as caught:
        take(pages, journal, WANTED, limit=50)
    stolen = len(pages.memory.stolen)
    assert (caught.value.hint or "").endswith(
        f"; huge pages are held by thief [77] {stolen * 2} MiB"
    )
    assert not journal.path.exists()
    assert nothing_of_ours(pages)


def test_who_has_left_too_little_is_said_too(tmp_path: Path) -> None:
    pages = machine(0, 0)
    pages.memory.overcommit = 8
    pages.memory.stolen += pages.memory.take(8) or []
    with pytest.raises(NoRoomForStage, match="34 huge pages are needed, but only 20 may") as caught:
        take(pages, Journal(tmp_path), WANTED, limit=20)
    assert (caught.value.hint or "").endswith("; huge pages are held by thief [77] 16 MiB")


def test_idle_pages_of_the_pool_are_made_up_for(tmp_path: Path) -> None:
    """The administrator reserved them for a program that is still to start."""
    pages, journal = machine(0, 0), Journal(tmp_path)
    pages.set_pool(20)
    take(pages, journal, WANTED, limit=1000)
    assert len(pages.memory.idle) == 20
    assert pages.memory.surplus == 0
    release(pages, journal)
    assert (len(pages.memory.idle), pages.memory.total) == (20, 20)


def test_overcommit_of_others_is_left_as_it_was(tmp_path: Path) -> None:
    pages, journal = machine(1, 1), Journal(tmp_path)
    pages.memory.overcommit = 9000
    take(pages, journal, WANTED, limit=1000)
    release(pages, journal)
    assert pages.memory.overcommit == 9000


def test_the_largest_are_named() -> None:
    users = tuple(HugePageUser(pid, f"p{pid}", (10 - pid) << 21) for pid in range(1, 6))
    assert held_by(users) == (
        "; huge pages are held by p1 [1] 18 MiB, p2 [2] 16 MiB, p3 [3] 14 MiB, 2 more"
    )
    assert held_by(()) == ""
