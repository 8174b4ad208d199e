"""The stage, memory for an image until a panic: huge pages at known physical addresses.

Allocated step by step with a journal, and released to the old state. Callers hold
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
"""The minimum number of pages by which a search grows."""
SHUN_MAX = 512
"""The maximum number of pages of shunned memory that a search takes to get to other memory."""
LOST_MAX = 512
LOST_PART = 4
"""Divisor: how many pages, of those that a search may take, others may take before it is given up.
Others do not release them, and the OOM killer does not count them."""
ROOM_MIN = 32
"""The minimum number of pages that others may take in one step: they are that fast."""
NAMED_MAX = 3
"""The number of processes to name in an error."""
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
    """There is one stage per machine."""

    code = "already-staged"


class NoRoomForStage(DoesNotFit):
    """There are not enough huge pages, or not enough adjacent ones."""

    code = "no-room-for-stage"

    def needed_more_than(self, pages: int) -> bool:
        """Whether it would lack memory even with this many more pages."""
        needed, limit = self.facts.get("needed"), self.facts.get("limit")
        return isinstance(needed, int) and isinstance(limit, int) and needed > limit + pages


class NotStaged(KexecError):
    """An address outside the pages of the stage."""

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
        """The complete stage: it is not data of the first kernel, and left out of a dump."""
        return RangeSet.of(page(addr) for addr in self.index)

    @property
    def singles(self) -> tuple[int, ...]:
        """Addresses of the pages besides the run."""
        return tuple(sorted(addr for addr in self.index if not self.run or addr not in self.run))

    def write(self, addr: int, data: bytes | memoryview) -> None:
        """Write at a physical address; may cross pages if the next page is also in the stage."""
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
        """Addresses whose page has moved: must be () before anything is armed."""
        return tuple(
            addr
            for addr, index in sorted(self.index.items())
            if self.pages.frames(index, 1) != [addr]
        )


def reopen(pages: HugePageSystem, journal: Journal) -> HugePageStage | None:
    """The complete stage that an earlier program left, or None."""
    taken = journal.read()
    return HugePageStage(pages, taken) if taken and taken.kept else None


def take(pages: HugePageSystem, journal: Journal, wanted: Wanted, limit: int) -> HugePageStage:
    """Take at most `limit` huge pages, in rounds, until the wanted ones are among them; keep those
    and release the rest.

    First releases what a killed program left half done. Raises AlreadyStaged, NoRoomForStage, and
    errors of the system; then nothing stays allocated.
    """
    left = journal.read()
    if left and left.kept:
        raise AlreadyStaged(
            "huge pages are staged already", hint="run pykexec unload to release them"
        )
    if left:
        release(pages, journal)
    if wanted.pages > limit:
        raise NoRoomForStage(
            f"{wanted.pages} huge pages are needed, but only {limit} may be taken",
            hint="use a smaller window, or free memory" + held_by(pages.users()),
            needed=wanted.pages,
            limit=limit,
        )
    pages.pool()  # without a pool, nothing needs to be released
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
    """The frames of the file's pages, and the choice among them. Before giving up, memory is
    compacted once, and then one GiB of it is emptied."""
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
        exhausted = len(frames) < asked or asked >= limit
        if isinstance(found, Choice):
            if exhausted or not any(map(wanted.shuns, found.frames)):
                return frames, found
            limit = min(limit, wanted.pages + _shunned_pages(wanted))
        elif exhausted:
            if compacted:
                break
            pages.compact()
            compacted = True
        asked = min(limit, max(asked, len(frames)) + max(wanted.run // 2, STEP_MIN))
    scattered = found.longest_run < wanted.run
    if scattered and limit >= GIB and (other := _search_a_gib(pages, journal, wanted, len(frames))):
        return other
    raise _no_room(wanted, found, len(frames), pages.users())


def _shunned_pages(wanted: Wanted) -> int:
    """How many pages to take at most before others come: the kernel allocates huge pages from
    ZONE_MOVABLE first (mm/hugetlb.c:htlb_alloc_mask)."""
    return min(SHUN_MAX, wanted.shun.size // HUGE_PAGE_SIZE)


def _search_a_gib(
    pages: HugePageSystem, journal: Journal, wanted: Wanted, taken: int
) -> tuple[list[int], Choice] | None:
    """The same in one GiB, after releasing the `taken` pages of the file: compaction does not move
    scattered huge pages, but allocating a page of 1 GiB does."""
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
    """Allocate one more page of 1 GiB and split it; returns by how many pages the pool has grown.
    Only a new page is split, because existing ones belong to others."""
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
    """Back `count` more pages of the file, starting at `first`; returns how many it got, and how
    many others took meanwhile. It compensates for those up to `may_lose`, with more room for others
    each time; pages that were obtained are kept."""
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
    """Reserve up to `count` new pages, and make the pool keep them; returns how many, and how many
    others took meanwhile, which is at most `room`.

    Any process can take a page in the pool: mmap(2) with MAP_HUGETLB needs no privilege. So no page
    enters the pool unreserved: surplus pages are allowed briefly, and those that a mapping of the
    file needs are made for it, and reserved under the lock under which they become visible
    (mm/hugetlb.c:gather_surplus_pages). Others may do the same meanwhile; with room for both they
    do not take these pages. Then nr_hugepages turns the surplus pages into permanent ones, and
    compensates for idle pages that the mapping used (set_max_huge_pages).
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
    """Reserve all at once, which is fastest, or as many as there are; returns how many."""
    got, step = 0, count
    while got < count and step:
        step = min(step, count - got)
        if pages.reserve(first + got, step):
            got += step
        else:
            step //= 2
    return got


def allocate(pages: HugePageSystem, first: int, count: int) -> None:
    """Allocate reserved pages. Raises NoRoomForStage if this process does not get them."""
    if not count:
        return
    try:
        pages.allocate(first, count)
    except SyscallError as error:
        if error.errno not in (ENOSPC, ENOMEM):
            raise
        raise NoRoomForStage(
            f"{count} huge pages are available, but this process does not get them",
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
            f"of {taken} pages examined",
            hint=any_of(
                "load right after boot, free memory (drop_caches)",
                Use(Wish.MODE, "stub-swap", holders),
            ),
            needed=wanted.run,
            longest_run=found.longest_run,
        )
    return NoRoomForStage(
        f"{found.usable} huge pages can be used, but {wanted.pages} are needed",
        hint="free memory, or load right after boot" + holders,
        needed=wanted.pages,
        usable=found.usable,
    )


def held_by(users: tuple[HugePageUser, ...]) -> str:
    """The largest holders, for the end of a hint."""
    named = [f"{user.name} [{user.pid}] {user.size >> 20} MiB" for user in users[:NAMED_MAX]]
    more = [f"{len(users) - NAMED_MAX} more"] if len(users) > NAMED_MAX else []
    return f"; huge pages are held by {', '.join((*named, *more))}" if named else ""


def keep(
    pages: HugePageSystem, journal: Journal, frames: list[int], choice: Choice
) -> HugePageStage:
    """Release all pages but the chosen ones. The pool shrinks first: then they are surplus, and
    return to the system and not to processes that wait for idle pages of the pool."""
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
    """Change the pool by this many pages, and return the actual change."""
    taken = journal.read() or Taken()
    before = pages.pool()
    pending = taken.changing(before, max(0, before + change))
    journal.write(pending)
    settled = pending.settled(pages.set_pool(max(0, before + change)))
    journal.write(settled)
    return settled.raised - taken.raised


def settle(pages: HugePageSystem, journal: Journal, taken: Taken) -> Taken:
    """Determine our part of a change, however far it went; release a GiB that was not split."""
    if taken.overcommit is not None:
        pages.set_overcommit(taken.overcommit)
    now = pages.gib_pages() or 0
    if taken.gib_pages is not None and now > taken.gib_pages:
        pages.set_gib_pages(now - 1)
    settled = replace(taken.settled(pages.pool()), gib_pages=None, overcommit=None)
    journal.write(settled)
    return settled


def release(pages: HugePageSystem, journal: Journal) -> None:
    """Release everything, whatever state the journal was left in. Idempotent."""
    taken = journal.read()
    if taken is None:
        return
    _resize(pages, journal, -settle(pages, journal, taken).raised)
    pages.remove_file()
    pages.unmount()
    journal.remove()
