"""Memory of our own in which an image waits: huge pages at known physical addresses.

Taken step by step with a journal, and given back as it was found. Callers hold
`host.lock.exclusive` around `take` and `release`.
"""

from __future__ import annotations

from dataclasses import replace
from errno import ENOMEM, ENOSPC
from typing import TYPE_CHECKING, Protocol

from pykexec.abi.hugetlb import GIB_PAGE_SIZE, HUGE_PAGE_SIZE
from pykexec.backends.kernel.journal import Journal, Taken
from pykexec.backends.kernel.runs import Choice, Shortage, Wanted, choose, page
from pykexec.errors import DoesNotFit, KexecError
from pykexec.memory.ranges import RangeSet
from pykexec.remedies import Use, Wish, any_of
from pykexec.syscalls import SyscallError

if TYPE_CHECKING:
    from pykexec.machine import HugePageUser

STEP_MIN = 16
"""Pages by which a search grows, at least."""
LOST_MAX = 512
LOST_PART = 4
"""Pages that others may take during a search before it is given up: so many, and that part of
what the search may take besides. They do not give them back, and no OOM killer counts them."""
ROOM_MIN = 32
"""Pages that others may take in one step, at least: they are that quick."""
NAMED_MAX = 3
"""Processes that a refusal names."""
GIB = GIB_PAGE_SIZE // HUGE_PAGE_SIZE
"""Pages in a page of 1 GiB."""


class HugePageSystem(Protocol):
    """host.hugepages.HugePages, or a model of it in a test."""

    def pool(self) -> int: ...
    def set_pool(self, count: int) -> int: ...
    def surplus(self) -> int: ...
    def overcommit(self) -> int: ...
    def set_overcommit(self, count: int) -> None: ...
    def users(self) -> tuple[HugePageUser, ...]: ...
    def compact(self) -> None: ...
    def gib_pages(self) -> int | None: ...
    def set_gib_pages(self, count: int) -> None: ...
    def split_gib_page(self) -> None: ...
    def mount(self) -> None: ...
    def unmount(self) -> None: ...
    def reserve(self, first: int, count: int) -> bool: ...
    def allocate(self, first: int, count: int) -> None: ...
    def give_back(self, index: int) -> None: ...
    def remove_file(self) -> None: ...
    def frames(self, first: int, count: int) -> list[int]: ...
    def write(self, index: int, offset: int, data: bytes | memoryview) -> None: ...
    def read(self, index: int, offset: int, size: int) -> bytes: ...


class AlreadyStaged(KexecError):
    """There is one stage a machine."""

    code = "already-staged"


class NoRoomForStage(DoesNotFit):
    """Memory has not enough huge pages, or not enough of them side by side."""

    code = "no-room-for-stage"

    def needed_more_than(self, pages: int) -> bool:
        """Whether it would lack memory even if it had so many pages more."""
        needed, limit = self.facts.get("needed"), self.facts.get("limit")
        return isinstance(needed, int) and isinstance(limit, int) and needed > limit + pages


class NotStaged(KexecError):
    """An address that is in no page of the stage."""

    code = "not-staged"
    usual_hint = "unload, and load again"


class HugePageStage:
    """The pages that were kept, by physical address (bytes)."""

    def __init__(self, pages: HugePageSystem, taken: Taken) -> None:
        self.pages = pages
        self.run = taken.run
        self.index = dict(taken.kept)

    @property
    def ranges(self) -> RangeSet:
        """All of it: not the first kernel's data, and left out of a dump."""
        return RangeSet.of(page(addr) for addr in self.index)

    @property
    def singles(self) -> tuple[int, ...]:
        """Addresses of the pages beside the run."""
        return tuple(sorted(addr for addr in self.index if not self.run or addr not in self.run))

    def write(self, addr: int, data: bytes | memoryview) -> None:
        """At a physical address; may go over page ends where the next page is ours too."""
        view = memoryview(data)
        for index, offset, start, end in self.pieces(addr, len(view)):
            self.pages.write(index, offset, view[start:end])

    def read(self, addr: int, size: int) -> bytes:
        return b"".join(
            self.pages.read(index, offset, end - start)
            for index, offset, start, end in self.pieces(addr, size)
        )

    def pieces(self, addr: int, size: int) -> list[tuple[int, int, int, int]]:
        """(page of the file, offset in it, start and end in the data) of each page touched."""
        found: list[tuple[int, int, int, int]] = []
        done = 0
        while done < size:
            offset = (addr + done) % HUGE_PAGE_SIZE
            index = self.index.get(addr + done - offset)
            if index is None:
                raise NotStaged(f"{addr + done:#x} is in no page of the stage", addr=addr + done)
            end = min(size, done + HUGE_PAGE_SIZE - offset)
            found.append((index, offset, done, end))
            done = end
        return found

    def moved(self) -> tuple[int, ...]:
        """Addresses whose page is somewhere else now: must be () before anything is armed."""
        return tuple(
            addr
            for addr, index in sorted(self.index.items())
            if self.pages.frames(index, 1) != [addr]
        )


def reopen(pages: HugePageSystem, journal: Journal) -> HugePageStage | None:
    """The stage that an earlier program left, complete; None without one."""
    taken = journal.read()
    return HugePageStage(pages, taken) if taken and taken.kept else None


def take(pages: HugePageSystem, journal: Journal, wanted: Wanted, limit: int) -> HugePageStage:
    """Take huge pages in rounds, `limit` at most, until the ones wanted are among them;
    keep those and give the rest back.

    What a killed program left half done is given back first. Raises AlreadyStaged,
    NoRoomForStage, and whatever the system says; then nothing stays taken.
    """
    left = journal.read()
    if left and left.kept:
        raise AlreadyStaged("huge pages are staged already", hint="pykexec unload gives them back")
    if left:
        release(pages, journal)
    if wanted.pages > limit:
        raise NoRoomForStage(
            f"{wanted.pages} huge pages are needed, {limit} may be taken",
            hint="a smaller window, or more free memory" + held_by(pages.users()),
            needed=wanted.pages,
            limit=limit,
        )
    pages.pool()  # where there is none, nothing has to be given back
    try:
        journal.write(Taken())
        pages.mount()
        return keep(pages, journal, *_search(pages, journal, wanted, limit))
    except BaseException:
        release(pages, journal)
        raise


def _search(
    pages: HugePageSystem, journal: Journal, wanted: Wanted, limit: int
) -> tuple[list[int], Choice]:
    """The frames of the file's pages, and the choice among them. Before the search is given
    up, memory is compacted once, and then one GiB of it is emptied."""
    frames: list[int] = []
    asked, compacted = wanted.pages, False
    lost = 0
    while True:
        first, may_lose = len(frames), min(LOST_MAX, (limit - asked) // LOST_PART) - lost
        grown, taken = _obtain(pages, journal, first, asked - first, may_lose)
        lost += taken
        if grown:
            frames += pages.frames(first, grown)
        found = choose(frames, wanted)
        if isinstance(found, Choice):
            return frames, found
        if len(frames) < asked or asked >= limit:
            if compacted:
                break
            pages.compact()
            compacted = True
        asked = min(limit, max(asked, len(frames)) + max(wanted.run // 2, STEP_MIN))
    scattered = found.longest_run < wanted.run
    if scattered and limit >= GIB and (other := _search_a_gib(pages, journal, wanted, len(frames))):
        return other
    raise _no_room(wanted, found, len(frames), pages.users())


def _search_a_gib(
    pages: HugePageSystem, journal: Journal, wanted: Wanted, taken: int
) -> tuple[list[int], Choice] | None:
    """The same in one GiB, after the `taken` pages of the file were given back: huge pages
    scattered over memory are not moved by compaction, but they are for a page of 1 GiB."""
    if pages.gib_pages() is None:
        return None
    _resize(pages, journal, -taken)
    pages.remove_file()
    grown = _split_a_gib(pages, journal)
    if not grown:
        return None
    got = _reserve(pages, 0, grown)
    if not got:
        return None
    allocate(pages, 0, got)
    frames = pages.frames(0, got)
    found = choose(frames, wanted)
    return (frames, found) if isinstance(found, Choice) else None


def _split_a_gib(pages: HugePageSystem, journal: Journal) -> int:
    """One page of 1 GiB more than there are, split; says by how many the pool has grown. The
    page is new, or nothing is split: one that was there is somebody's."""
    taken = journal.read() or Taken()
    pool, gib_pages = pages.pool(), pages.gib_pages() or 0
    pending = replace(taken.changing(pool, pool + GIB), gib_pages=gib_pages)
    journal.write(pending)
    pages.set_gib_pages(gib_pages + 1)
    if (pages.gib_pages() or 0) > gib_pages:
        pages.split_gib_page()
    return settle(pages, journal, pending).raised - taken.raised


def _obtain(
    pages: HugePageSystem, journal: Journal, first: int, count: int, may_lose: int
) -> tuple[int, int]:
    """Back `count` more pages of the file, from `first` on; says how many it got, and how many
    others took meanwhile. That is made up for until they have `may_lose`, with more room for them
    each time; what was obtained is kept."""
    got = lost = 0
    room = max(count, ROOM_MIN)
    while got < count:
        room = min(room, max(0, may_lose - lost))
        more, taken = _grow(pages, journal, first + got, count - got, room)
        allocate(pages, first + got, more)
        got, lost, room = got + more, lost + taken, 2 * room
        if not taken or lost >= may_lose:
            break
    return got, lost


def _grow(
    pages: HugePageSystem, journal: Journal, first: int, count: int, room: int
) -> tuple[int, int]:
    """Reserve up to `count` pages that did not exist before, and have the pool keep them; says how
    many, and how many others took meanwhile, which is at most `room`.

    A page that enters the pool is anybody's: mmap(2) with MAP_HUGETLB needs no privilege. So none
    enters it: surplus pages are allowed for a moment, and those that a mapping of our file needs
    are made for it, and reserved under the lock under which they become visible
    (mm/hugetlb.c:gather_surplus_pages). Others may use that moment too: with room for both they
    do not take ours.
    Then nr_hugepages takes ours out of the surplus, and makes up for idle pages that the mapping
    used (set_max_huge_pages).
    """
    taken = journal.read() or Taken()
    before, surplus, allowed = pages.pool(), pages.surplus(), pages.overcommit()
    pending = replace(taken.changing(before, before + count), overcommit=allowed)
    journal.write(pending)
    pages.set_overcommit(max(allowed, surplus + count + room))
    got = _reserve(pages, first, count)
    pages.set_overcommit(allowed)
    now = pages.set_pool(before + got)
    journal.write(replace(pending.settled(now), overcommit=None))
    return got, max(0, now + pages.surplus() - before - surplus - got)


def _reserve(pages: HugePageSystem, first: int, count: int) -> int:
    """All at once, which is the quickest, or as many as there are; says how many."""
    got, step = 0, count
    while got < count and step:
        step = min(step, count - got)
        if pages.reserve(first + got, step):
            got += step
        else:
            step //= 2
    return got


def allocate(pages: HugePageSystem, first: int, count: int) -> None:
    """What was reserved. Raises NoRoomForStage where this process does not get it."""
    if not count:
        return
    try:
        pages.allocate(first, count)
    except SyscallError as error:
        if error.errno not in (ENOSPC, ENOMEM):
            raise
        raise NoRoomForStage(
            f"{count} huge pages are there, and this process does not get them",
            hint="hugetlb.2MB.max, memory.max and cpuset.mems of its cgroup may be limits",
        ) from error


def _no_room(
    wanted: Wanted, found: Shortage, taken: int, users: tuple[HugePageUser, ...]
) -> NoRoomForStage:
    """What was missing, what would help, and who has huge pages."""
    holders = held_by(users)
    if found.longest_run < wanted.run:
        return NoRoomForStage(
            f"no {wanted.run} adjacent huge pages: the longest run has {found.longest_run}, "
            f"of {taken} pages looked at",
            hint=any_of(
                "load right after boot, free memory (drop_caches)",
                Use(Wish.MODE, "stub-swap", holders),
            ),
            needed=wanted.run,
            longest_run=found.longest_run,
        )
    return NoRoomForStage(
        f"{found.usable} huge pages can be used, {wanted.pages} are needed",
        hint="free memory, or load right after boot" + holders,
        needed=wanted.pages,
        usable=found.usable,
    )


def held_by(users: tuple[HugePageUser, ...]) -> str:
    """The largest of them, as the end of a hint."""
    named = [f"{user.name} [{user.pid}] {user.size >> 20} MiB" for user in users[:NAMED_MAX]]
    more = [f"{len(users) - NAMED_MAX} more"] if len(users) > NAMED_MAX else []
    return f"; huge pages are held by {', '.join((*named, *more))}" if named else ""


def keep(
    pages: HugePageSystem, journal: Journal, frames: list[int], choice: Choice
) -> HugePageStage:
    """Give back all pages but the chosen ones. The pool shrinks first: they are surplus then, and
    go to the system and not to whoever waits for idle pages of the pool."""
    chosen = choice.frames
    _resize(pages, journal, len(chosen) - len(frames))
    for index, frame in enumerate(frames):
        if frame not in chosen:
            pages.give_back(index)
    kept = tuple((frame, index) for index, frame in enumerate(frames) if frame in chosen)
    taken = journal.read() or Taken()
    taken = Taken(raised=taken.raised, kept=kept, run=choice.run)
    journal.write(taken)
    return HugePageStage(pages, taken)


def _resize(pages: HugePageSystem, journal: Journal, change: int) -> int:
    """Change the pool by so many pages, and say how many it really was."""
    taken = journal.read() or Taken()
    before = pages.pool()
    pending = taken.changing(before, max(0, before + change))
    journal.write(pending)
    settled = pending.settled(pages.set_pool(max(0, before + change)))
    journal.write(settled)
    return settled.raised - taken.raised


def settle(pages: HugePageSystem, journal: Journal, taken: Taken) -> Taken:
    """What of a change is ours, however far it went; a GiB that was not split is given back."""
    if taken.overcommit is not None:
        pages.set_overcommit(taken.overcommit)
    now = pages.gib_pages() or 0
    if taken.gib_pages is not None and now > taken.gib_pages:
        pages.set_gib_pages(now - 1)
    settled = replace(taken.settled(pages.pool()), gib_pages=None, overcommit=None)
    journal.write(settled)
    return settled


def release(pages: HugePageSystem, journal: Journal) -> None:
    """Give everything back, whatever point the journal was left at. May be repeated."""
    taken = journal.read()
    if taken is None:
        return
    _resize(pages, journal, -settle(pages, journal, taken).raised)
    pages.remove_file()
    pages.unmount()
    journal.remove()
