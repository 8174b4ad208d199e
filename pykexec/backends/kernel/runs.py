"""Which of the huge pages at hand to keep: a run of adjacent ones, and others beside it."""

from __future__ import annotations

from collections.abc import Iterable

from pykexec.abi.hugetlb import HUGE_PAGE_SIZE, SECTION_SIZE
from pykexec.frozen import dataclass
from pykexec.memory.ranges import ALL_MEMORY, PhysRange, RangeSet

NOTHING = RangeSet()


@dataclass(frozen=True, slots=True)
class Wanted:
    """`run` adjacent pages inside one of `windows`, the first one that has them, and
    `singles` more pages anywhere. No page touches `avoid`."""

    run: int = 0
    singles: int = 0
    windows: tuple[PhysRange, ...] = (ALL_MEMORY,)
    avoid: RangeSet = NOTHING

    @property
    def pages(self) -> int:
        return self.run + self.singles


@dataclass(frozen=True, slots=True)
class Choice:
    """What to keep: the run (None where none was wanted) and the addresses of the others."""

    run: PhysRange | None
    singles: tuple[int, ...]

    @property
    def frames(self) -> frozenset[int]:
        adjacent = range(self.run.start, self.run.end, HUGE_PAGE_SIZE) if self.run else ()
        return frozenset((*adjacent, *self.singles))


@dataclass(frozen=True, slots=True)
class Shortage:
    """What was there instead, in pages: the longest run, and all that could be used."""

    longest_run: int
    usable: int


def choose(frames: Iterable[int], wanted: Wanted) -> Choice | Shortage:
    """Out of the physical addresses of huge pages."""
    usable = sorted(frame for frame in frames if not wanted.avoid.overlaps(page(frame)))
    candidates = [_adjacent(usable, window) for window in wanted.windows]
    run = None
    if wanted.run:
        run = next((place for runs in candidates if (place := _best_place(runs, wanted.run))), None)
    others = [frame for frame in usable if not run or frame not in run]
    if (wanted.run and not run) or len(others) < wanted.singles:
        longest = max((span.size for runs in candidates for span in runs), default=0)
        return Shortage(longest // HUGE_PAGE_SIZE, len(usable))
    return Choice(run, tuple(sorted(others[len(others) - wanted.singles :])))


def page(frame: int) -> PhysRange:
    return PhysRange.sized(frame, HUGE_PAGE_SIZE)


def _adjacent(frames: Iterable[int], window: PhysRange) -> RangeSet:
    """The pages inside the window, joined where they touch."""
    return RangeSet.of(page(frame) for frame in frames if window.covers(page(frame)))


def _best_place(runs: RangeSet, pages: int) -> PhysRange | None:
    """The place for so many pages that touches the fewest sections; the highest of those,
    since low memory is wanted by others."""
    size = pages * HUGE_PAGE_SIZE
    places = [
        PhysRange.sized(start, size)
        for run in runs
        for start in range(run.start, run.end - size + 1, HUGE_PAGE_SIZE)
    ]
    return min(places, key=lambda place: (sections(place), -place.start), default=None)


def sections(span: PhysRange) -> int:
    """How many it touches: each costs the capture kernel 2 MiB of memmap (kernel-contract 7.5)."""
    return span.outward(SECTION_SIZE).size // SECTION_SIZE


SEARCH_MAX = 16 << 30
"""Bytes: the kernel zeroes all that a search takes, and that takes time."""
LEFT_MIN, LEFT_PART = 64 << 20, 8
"""What a search leaves to everybody else: bytes at least, and the part of what is available."""


def search_limit(memavailable: int) -> int:
    """How many huge pages a search may take for a moment, out of what can be had without
    swapping (bytes). It evicts the page cache, and what it does not keep is given back at
    once; with half of it 192 MiB of adjacent pages were not found in a guest of 1 GiB."""
    left = max(LEFT_MIN, memavailable // LEFT_PART)
    return max(0, min(memavailable - left, SEARCH_MAX)) // HUGE_PAGE_SIZE
