"""Which of the available huge pages to keep: a run of adjacent ones, and further ones."""

from __future__ import annotations

from collections.abc import Iterable

from pykexec.abi.hugetlb import HUGE_PAGE_SIZE, SECTION_SIZE
from pykexec.frozen import dataclass
from pykexec.memory.ranges import ALL_MEMORY, PhysRange, RangeSet

NOTHING = RangeSet()


@dataclass(frozen=True, slots=True)
class Wanted:
    """`run` adjacent pages inside the first of `windows` that has them, and `singles` more pages
    anywhere. No page overlaps `avoid`, and those that overlap `shun` are the last choice: memory
    that may go offline, which moves its pages."""

    run: int = 0
    singles: int = 0
    windows: tuple[PhysRange, ...] = (ALL_MEMORY,)
    avoid: RangeSet = NOTHING
    shun: RangeSet = NOTHING

    @property
    def pages(self) -> int:
        return self.run + self.singles

    def shuns(self, frame: int) -> bool:
        return self.shun.overlaps(page(frame))


@dataclass(frozen=True, slots=True)
class Choice:
    """What to keep: the run (None if none was wanted) and the addresses of the others."""

    run: PhysRange | None
    singles: tuple[int, ...]

    @property
    def frames(self) -> frozenset[int]:
        adjacent = range(self.run.start, self.run.end, HUGE_PAGE_SIZE) if self.run else ()
        return frozenset((*adjacent, *self.singles))


@dataclass(frozen=True, slots=True)
class Shortage:
    """What is available instead, in pages: the longest run, and all usable ones."""

    longest_run: int
    usable: int


def choose(frames: Iterable[int], wanted: Wanted) -> Choice | Shortage:
    """Choose among the physical addresses of huge pages."""
    usable = sorted(frame for frame in frames if not wanted.avoid.overlaps(page(frame)))
    best = _choose([frame for frame in usable if not wanted.shuns(frame)], wanted)
    return best if isinstance(best, Choice) or not wanted.shun else _choose(usable, wanted)


def _choose(usable: list[int], wanted: Wanted) -> Choice | Shortage:
    candidates = [_adjacent(usable, window) for window in wanted.windows]
    run = None
    if wanted.run:
        run = next((place for runs in candidates if (place := _best_place(runs, wanted.run))), None)
    others = [frame for frame in usable if not run or frame not in run]
    others.sort(key=lambda frame: (not wanted.shuns(frame), frame))
    if (wanted.run and not run) or len(others) < wanted.singles:
        longest = max((span.size for runs in candidates for span in runs), default=0)
        return Shortage(longest // HUGE_PAGE_SIZE, len(usable))
    return Choice(run, tuple(sorted(others[len(others) - wanted.singles :])))


def page(frame: int) -> PhysRange:
    return PhysRange.sized(frame, HUGE_PAGE_SIZE)


def _adjacent(frames: Iterable[int], window: PhysRange) -> RangeSet:
    """The pages inside the window; adjacent ones are merged."""
    return RangeSet.of(page(frame) for frame in frames if window.covers(page(frame)))


def _best_place(runs: RangeSet, pages: int) -> PhysRange | None:
    """The place for this many pages that touches the fewest sections; the highest of those, because
    others need low memory."""
    size = pages * HUGE_PAGE_SIZE
    places = [
        PhysRange.sized(start, size)
        for run in runs
        for start in range(run.start, run.end - size + 1, HUGE_PAGE_SIZE)
    ]
    return min(places, key=lambda place: (sections(place), -place.start), default=None)


def sections(span: PhysRange) -> int:
    """The number of sections that it touches: each costs the capture kernel 2 MiB of memmap
    (kernel-contract 7.5)."""
    return span.outward(SECTION_SIZE).size // SECTION_SIZE


SEARCH_MAX = 16 << 30
"""Bytes: the kernel zeroes all memory that a search takes, which takes time."""
LEFT_MIN, LEFT_PART = 64 << 20, 8
"""What a search leaves to others: minimum in bytes, and the divisor of the available memory."""


def search_limit(memavailable: int) -> int:
    """How many huge pages a search may take briefly, given the memory that is available without
    swapping (bytes). It evicts the page cache, and pages that are not kept are released at once.
    With half of it, 192 MiB of adjacent pages were not found in a guest with 1 GiB."""
    left = max(LEFT_MIN, memavailable // LEFT_PART)
    return max(0, min(memavailable - left, SEARCH_MAX)) // HUGE_PAGE_SIZE
