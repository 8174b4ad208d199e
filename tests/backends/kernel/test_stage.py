"""The stage on a model of a machine's huge pages, killed at every step."""

from __future__ import annotations

import json
from collections.abc import Callable
from errno import ENOSPC
from itertools import count
from pathlib import Path

import pytest

from pykexec.backends.kernel import stage as stage_module
from pykexec.backends.kernel.journal import BadJournal, Journal, Taken
from pykexec.backends.kernel.runs import Wanted
from pykexec.backends.kernel.stage import (
    AlreadyStaged,
    HugePageStage,
    NoRoomForStage,
    NotStaged,
    release,
    reopen,
    take,
)
from pykexec.cli.terms import PYKEXEC
from pykexec.errors import KexecError
from pykexec.machine import HugePageUser
from pykexec.memory.ranges import PhysRange, RangeSet
from pykexec.syscalls import SyscallError

MIB2 = 2 << 20
GIB = 8
"""Pages in a page of 1 GiB, on this machine."""


class Killed(BaseException):
    """kill -9: nothing runs after it, not even `except` (see `survive`)."""


class Machine:
    """Huge pages of a machine: frames are allocated in a given order."""

    def __init__(self, order: list[int], pool: int = 0, kill_at: int = 0) -> None:
        self.order, self.size, self.first_pool = order, pool, pool
        self.file: dict[int, int] = {}
        self.memory: dict[int, bytearray] = {}
        self.mounted = self.compacted = False
        self.after_compaction: list[int] = []
        self.over = self.beyond = 0
        self.reserved: set[int] = set()
        self.gibs: int | None = None
        self.first_gibs = 0
        self.one_gib: list[int] = []
        self.split = 0
        self.taken_away = False
        self.steps, self.kill_at = 0, kill_at
        self.largest = 0

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.kill_at:
            raise Killed

    def pool(self) -> int:
        return self.size

    def surplus(self) -> int:
        return self.beyond

    def overcommit(self) -> int:
        return self.over

    def set_overcommit(self, count: int) -> None:
        self.step()
        self.over = count
        self.step()

    def users(self) -> tuple[HugePageUser, ...]:
        return ()

    def reserve(self, first: int, count: int) -> bool:
        """From the pages that a split provided, or as surplus."""
        self.step()
        if first + count > len(self.order):
            return False
        new = max(0, count - max(0, self.split - len(self.reserved)))
        if self.beyond + new > self.over:
            return False
        self.beyond += new
        self.reserved |= set(range(first, first + count))
        self.largest = max(self.largest, self.size + self.beyond)
        self.step()
        return True

    def set_pool(self, count: int) -> int:
        self.step()
        while self.beyond and self.size < count:
            self.beyond -= 1
            self.size += 1
        most = self.first_pool + len(self.order)
        self.size = min(count, most) if count > self.size else count
        self.largest = max(self.largest, self.size)
        self.step()
        return self.size

    def compact(self) -> None:
        self.step()
        self.order += self.after_compaction
        self.after_compaction = []
        self.compacted = True

    def gib_pages(self) -> int | None:
        return self.gibs

    def set_gib_pages(self, count: int) -> None:
        """It is made from `one_gib`, unless a page of the file is in the way."""
        assert self.gibs is not None
        self.step()
        if count < self.gibs or (self.one_gib and not self.file):
            self.gibs = count
        self.step()

    def split_gib_page(self) -> None:
        assert self.gibs is not None
        self.step()
        if not self.taken_away:
            self.gibs -= 1
            self.size += len(self.one_gib)
            self.split = len(self.one_gib)
            self.order = [*self.one_gib, *self.order]
        self.step()

    def mount(self) -> None:
        self.step()
        self.mounted = True
        self.step()

    def unmount(self) -> None:
        self.step()
        self.mounted = False
        self.step()

    def allocate(self, first: int, count: int) -> None:
        for index in range(first, first + count):
            self.step()
            assert index in self.reserved
            self.file[index] = self.order[index]
            self.memory[self.order[index]] = bytearray(MIB2)

    def give_back(self, index: int) -> None:
        self.step()
        del self.file[index]

    def remove_file(self) -> None:
        self.step()
        self.file.clear()
        self.reserved.clear()
        self.beyond = 0
        self.step()

    def frames(self, first: int, count: int) -> list[int]:
        self.step()
        return [self.file[index] for index in range(first, first + count)]

    def write(self, index: int, offset: int, data: bytes | memoryview) -> None:
        self.memory[self.file[index]][offset : offset + len(data)] = data

    def read(self, index: int, offset: int, size: int) -> bytes:
        return bytes(self.memory[self.file[index]][offset : offset + size])


def at(*numbers: int) -> list[int]:
    return [number * MIB2 for number in numbers]


WANTED = Wanted(run=3, singles=1)
ORDER = at(10, 40, 12, 20, 11, 50, 60, 70)


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_module, "STEP_MIN", 1)
    monkeypatch.setattr(stage_module, "GIB", GIB)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path)


def as_before(machine: Machine, journal: Journal) -> bool:
    return (
        machine.size == machine.first_pool
        and (machine.gibs or 0) == machine.first_gibs
        and (machine.over, machine.beyond) == (0, 0)
        and not machine.file
        and not machine.mounted
        and not journal.path.exists()
    )


def test_take_and_release(journal: Journal) -> None:
    machine = Machine(ORDER, pool=5)
    stage = take(machine, journal, WANTED, limit=8)
    assert stage.run == PhysRange(10 * MIB2, 13 * MIB2)
    assert stage.singles == (40 * MIB2,)
    assert stage.ranges == RangeSet(
        (PhysRange(10 * MIB2, 13 * MIB2), PhysRange(40 * MIB2, 41 * MIB2))
    )
    assert machine.size == 5 + 4
    assert sorted(machine.file.values()) == at(10, 11, 12, 40)
    assert machine.largest == 5 + 5
    release(machine, journal)
    assert as_before(machine, journal)
    release(machine, journal)
    assert as_before(machine, journal)


MOVABLE = RangeSet((PhysRange(40 * MIB2, 44 * MIB2),))
"""The kernel takes its pages first."""


@pytest.mark.parametrize(
    ("order", "singles", "largest"),
    [
        ((40, 41, 42, 43, 10, 11, 12), (10, 11), 6),
        ((40, 41, 42, 43, 10), (10, 43), 5),
        ((40, 41, 60, 61, 10, 11, 12), (60, 61), 4),
    ],
)
def test_pages_elsewhere_are_preferred_to_movable_memory(
    journal: Journal, order: tuple[int, ...], singles: tuple[int, ...], largest: int
) -> None:
    """A search takes no more than it needs to get past the movable memory."""
    machine = Machine(at(*order))
    wanted = Wanted(singles=2, shun=MOVABLE)
    assert take(machine, journal, wanted, limit=20).singles == tuple(at(*singles))
    assert machine.largest <= largest + 1
    release(machine, journal)
    assert as_before(machine, journal)


def test_write_over_the_end_of_a_page(journal: Journal) -> None:
    machine = Machine(ORDER)
    stage = take(machine, journal, WANTED, limit=8)
    data = bytes(range(256)) * (MIB2 // 256)
    stage.write(10 * MIB2 + 4096, data)
    assert stage.read(10 * MIB2 + 4096, len(data)) == data
    assert stage.read(11 * MIB2, 4) == data[MIB2 - 4096 : MIB2 - 4092]
    with pytest.raises(NotStaged, match="0x1a00000 is in no page of the stage"):
        stage.write(13 * MIB2 - 1, b"12")


def test_stage_outlives_its_loader(journal: Journal) -> None:
    machine = Machine(ORDER)
    take(machine, journal, WANTED, limit=8).write(40 * MIB2, b"headers")
    again = reopen(machine, Journal(journal.path.parent))
    assert isinstance(again, HugePageStage)
    assert again.run == PhysRange(10 * MIB2, 13 * MIB2)
    assert again.read(40 * MIB2, 7) == b"headers"
    with pytest.raises(AlreadyStaged, match="huge pages are staged already"):
        take(machine, journal, WANTED, limit=8)
    release(machine, journal)
    assert reopen(machine, journal) is None


def test_moved_page_is_noticed(journal: Journal) -> None:
    machine = Machine(ORDER)
    stage = take(machine, journal, WANTED, limit=8)
    assert stage.moved() == ()
    index = stage.index[11 * MIB2]
    machine.file[index] = 99 * MIB2
    assert stage.moved() == (11 * MIB2,)


REFUSALS: list[tuple[str, Machine, Wanted, int, str, str]] = [
    (
        "no run in all that may be taken",
        Machine(at(10, 12, 14, 16, 18, 19)),
        Wanted(run=3),
        5,
        "no 3 adjacent huge pages: the longest run has 1, of 5 pages examined",
        "load right after boot, free memory (drop_caches), or use --mode stub-swap",
    ),
    (
        "no run in all that there is",
        Machine(at(10, 12, 14, 15)),
        Wanted(run=3),
        100,
        "no 3 adjacent huge pages: the longest run has 2, of 4 pages examined",
        "load right after boot, free memory (drop_caches), or use --mode stub-swap",
    ),
    (
        "too few pages",
        Machine(at(10, 12)),
        Wanted(singles=3),
        100,
        "2 huge pages can be used, but 3 are needed",
        "free memory, or load right after boot",
    ),
    (
        "a machine without any",
        Machine([]),
        Wanted(singles=1),
        100,
        "0 huge pages can be used, but 1 are needed",
        "free memory, or load right after boot",
    ),
    (
        "more than may be taken",
        Machine(ORDER),
        Wanted(run=3, singles=3),
        5,
        "6 huge pages are needed, but only 5 may be taken",
        "use a smaller window, or free memory",
    ),
]


@pytest.mark.parametrize(
    ("machine", "wanted", "limit", "message", "hint"), [row[1:] for row in REFUSALS],
    ids=[row[0] for row in REFUSALS],
)  # fmt: skip
def test_refusal_gives_everything_back(
    journal: Journal, machine: Machine, wanted: Wanted, limit: int, message: str, hint: str
) -> None:
    with pytest.raises(NoRoomForStage) as caught:
        take(machine, journal, wanted, limit)
    assert (str(caught.value), caught.value.hint_in(PYKEXEC)) == (message, hint)
    assert caught.value.exit_status == 6
    assert as_before(machine, journal)
    assert machine.largest <= limit


def test_memory_is_compacted_before_giving_up(journal: Journal) -> None:
    machine = Machine(at(10, 12))
    machine.after_compaction = at(11)
    stage = take(machine, journal, Wanted(run=3), limit=10)
    assert machine.compacted
    assert stage.run == PhysRange(10 * MIB2, 13 * MIB2)


def test_memory_is_not_compacted_for_nothing(journal: Journal) -> None:
    machine = Machine(ORDER)
    take(machine, journal, WANTED, limit=8)
    assert not machine.compacted


def killed(
    build: Callable[[], Machine], kill_at: int, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> Machine:
    """A machine on which taking pages was killed: the cleanup in `except` did not run."""

    def dead(*_: object) -> None:
        raise Killed

    machine = build()
    machine.kill_at = kill_at
    with monkeypatch.context() as patch:
        patch.setattr(stage_module, "release", dead)
        with pytest.raises(Killed):
            take(machine, journal, WANTED, limit=8)
    return machine


def scattered(pool: int = 5) -> Machine:
    """No two huge pages are adjacent, and one page of 1 GiB belongs to another process; the kernel
    can make another."""
    machine = Machine(at(10, 12, 14, 16, 18), pool)
    machine.gibs = machine.first_gibs = 1
    machine.one_gib = at(*range(32, 32 + GIB))
    return machine


def test_where_no_pages_are_adjacent_a_gib_is_emptied_and_split(journal: Journal) -> None:
    machine = scattered()
    stage = take(machine, journal, WANTED, limit=GIB)
    assert stage.run == PhysRange(37 * MIB2, 40 * MIB2)
    assert stage.singles == (36 * MIB2,)
    assert (machine.size, machine.gibs) == (5 + 4, 1)
    assert machine.compacted
    release(machine, journal)
    assert as_before(machine, journal)


def test_a_gib_is_not_more_than_may_be_taken(journal: Journal) -> None:
    machine = scattered()
    with pytest.raises(NoRoomForStage, match="no 3 adjacent huge pages"):
        take(machine, journal, WANTED, limit=GIB - 1)
    assert as_before(machine, journal)


@pytest.mark.parametrize("why", ["no GiB can be emptied", "another program took it", "no pool"])
def test_no_gib_to_be_had(journal: Journal, why: str) -> None:
    machine = scattered()
    if why == "no GiB can be emptied":
        machine.one_gib = []
    machine.taken_away = why == "another program took it"
    if why == "no pool":
        machine.gibs, machine.first_gibs = None, 0
    with pytest.raises(NoRoomForStage, match="no 3 adjacent huge pages"):
        take(machine, journal, WANTED, limit=GIB)
    assert as_before(machine, journal)


def test_no_gib_is_emptied_for_pages_that_need_not_be_adjacent(journal: Journal) -> None:
    machine = scattered()
    with pytest.raises(NoRoomForStage, match="5 huge pages can be used, but 6 are needed"):
        take(machine, journal, Wanted(singles=6), limit=GIB)
    assert as_before(machine, journal)


def plain() -> Machine:
    return Machine(list(ORDER), pool=5)


KILLED = [
    *((plain, kill_at) for kill_at in range(1, 29)),
    *((scattered, kill_at) for kill_at in range(1, 67)),
]
"""Each step of taking pages."""


@pytest.mark.parametrize("build", [plain, scattered])
def test_every_step_is_killed_below(journal: Journal, build: Callable[[], Machine]) -> None:
    machine = build()
    take(machine, journal, WANTED, limit=8)
    assert [kill_at for made, kill_at in KILLED if made is build][-1] == machine.steps


@pytest.mark.parametrize(("build", "kill_at"), KILLED)
def test_killed_while_taking(
    journal: Journal,
    build: Callable[[], Machine],
    kill_at: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = killed(build, kill_at, journal, monkeypatch)
    assert reopen(machine, journal) is None
    release(machine, Journal(journal.path.parent))
    assert as_before(machine, journal)


@pytest.mark.parametrize(("build", "kill_at"), KILLED)
def test_next_take_gives_back_what_the_killed_one_left(
    journal: Journal,
    build: Callable[[], Machine],
    kill_at: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = killed(build, kill_at, journal, monkeypatch)
    take(machine, journal, WANTED, limit=8)
    assert machine.size == 5 + 4
    release(machine, journal)
    assert as_before(machine, journal)


@pytest.mark.parametrize("kill_at", range(1, 7))
def test_killed_while_releasing(journal: Journal, kill_at: int) -> None:
    machine = Machine(list(ORDER), pool=5)
    take(machine, journal, WANTED, limit=8)
    machine.kill_at = machine.steps + kill_at
    with pytest.raises(Killed):
        release(machine, journal)
    release(machine, journal)
    assert as_before(machine, journal)


@pytest.mark.parametrize(("build", "kill_at"), KILLED)
def test_killed_while_taking_and_again_while_releasing(
    tmp_path: Path,
    build: Callable[[], Machine],
    kill_at: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for second in count(1):
        journal = Journal(tmp_path)
        machine = killed(build, kill_at, journal, monkeypatch)
        machine.kill_at = machine.steps + second
        try:
            release(machine, journal)
        except Killed:
            release(machine, journal)
            assert as_before(machine, journal)
        else:
            assert as_before(machine, journal)
            assert second > 6
            break


def test_interrupt_gives_everything_back(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(list(ORDER), pool=5)

    def interrupted(first: int, count: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(machine, "allocate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        take(machine, journal, WANTED, limit=8)
    assert as_before(machine, journal)


SETTLED = [
    ("not begun", Taken(raised=2).changing(10, 20), 10, 2),
    ("done", Taken(raised=2).changing(10, 20), 20, 12),
    ("the kernel gave less", Taken(raised=2).changing(10, 20), 13, 5),
    ("another program raised it too", Taken(raised=2).changing(10, 20), 30, 12),
    ("another program lowered it", Taken(raised=2).changing(10, 20), 4, 2),
    ("lowered half way", Taken(raised=12).changing(20, 10), 15, 7),
    ("nothing pending", Taken(raised=3), 99, 3),
]


@pytest.mark.parametrize(
    ("pending", "now", "raised"), [row[1:] for row in SETTLED], ids=[row[0] for row in SETTLED]
)
def test_settled(pending: Taken, now: int, raised: int) -> None:
    assert pending.settled(now) == Taken(raised=raised)


def test_journal_reads_what_it_wrote(journal: Journal) -> None:
    taken = Taken(3, 5, 8, ((0x200000, 4), (0x400000, 0)), PhysRange(0x200000, 0x600000), 2, 7)
    journal.write(taken)
    assert journal.read() == taken
    assert journal.path.stat().st_mode & 0o777 == 0o600


GOOD = {
    "schema": "pykexec.stage/1", "raised": 0, "before": None, "after": None,
    "kept": [], "run": None, "gib_pages": None, "overcommit": None,
}  # fmt: skip
BAD_JOURNALS: list[tuple[str, bytes]] = [
    ("not JSON", b"{"),
    ("a list", b"[]"),
    ("another schema", json.dumps(GOOD | {"schema": "x"}).encode()),
    ("no count", b'{"schema": "pykexec.stage/1"}'),
    ("a fraction", json.dumps(GOOD | {"raised": 1.5}).encode()),
    ("a truth value", json.dumps(GOOD | {"raised": True}).encode()),
    ("pages that are no pairs", json.dumps(GOOD | {"kept": [1]}).encode()),
    ("a run that is reversed", json.dumps(GOOD | {"run": {"start": 2, "end": 1}}).encode()),
    ("nested too deep", b"[" * 100_000),
]


@pytest.mark.parametrize(
    "data", [row[1] for row in BAD_JOURNALS], ids=[row[0] for row in BAD_JOURNALS]
)
def test_bad_journal(journal: Journal, data: bytes) -> None:
    journal.path.write_bytes(data)
    with pytest.raises(BadJournal) as caught:
        journal.read()
    assert str(caught.value) == f"{journal.path}: not a journal of pykexec"


def test_unreadable_journal(tmp_path: Path) -> None:
    (tmp_path / "stage.json").mkdir()
    with pytest.raises(KexecError, match=r"stage\.json: is a directory"):
        Journal(tmp_path).read()


def test_pages_that_a_cgroup_does_not_let_us_have(tmp_path: Path) -> None:
    class Limited(Machine):
        def allocate(self, first: int, count: int) -> None:
            raise SyscallError("fallocate(3, 0x0, 0x0, 0x800000)", ENOSPC)

    machine = Limited(ORDER, pool=2)
    with pytest.raises(
        NoRoomForStage, match="4 huge pages are available, but this process"
    ) as caught:
        take(machine, Journal(tmp_path), WANTED, 8)
    assert "hugetlb.2MB.max" in (caught.value.hint or "")
    assert (machine.size, machine.mounted) == (2, False)
    assert Journal(tmp_path).read() is None
