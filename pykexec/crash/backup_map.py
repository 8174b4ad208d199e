"""Maps each destination page to the place of its old contents after the switch.

The kernel's page list has one entry for each page; here it is stored as runs in which destination
and source both advance.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import islice

from pykexec.frozen import dataclass
from pykexec.memory.ranges import PhysRange, RangeSet


@dataclass(frozen=True, order=True, slots=True)
class BackupRun:
    """`size` bytes that belong at `dest` and are at `source` after the switch."""

    dest: int
    source: int
    size: int

    @property
    def in_place(self) -> bool:
        """Whether the pages were free and became their own source: they have no old contents."""
        return self.dest == self.source

    @property
    def dest_range(self) -> PhysRange:
        return PhysRange.sized(self.dest, self.size)

    @property
    def source_range(self) -> PhysRange:
        return PhysRange.sized(self.source, self.size)


@dataclass(frozen=True, slots=True)
class BackupMap:
    """Runs sorted by destination, disjoint; build one with `from_pages` or `of`."""

    runs: tuple[BackupRun, ...] = ()

    @classmethod
    def of(cls, runs: Iterable[BackupRun]) -> BackupMap:
        """Build a map from runs in any order."""
        return cls(_joined((run.dest, run.source, run.size) for run in runs))

    @classmethod
    def from_pages(cls, pairs: Iterable[tuple[int, int]], page_size: int) -> BackupMap:
        """Build a map from the (destination, source) addresses of pages of `page_size` bytes, in
        any order."""
        return cls(_joined((dest, source, page_size) for dest, source in pairs))

    def __iter__(self) -> Iterator[BackupRun]:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)

    @property
    def destinations(self) -> RangeSet:
        """Every address written at the switch, in place or not."""
        return RangeSet.of(run.dest_range for run in self.runs)

    @property
    def moved(self) -> tuple[BackupRun, ...]:
        """The runs with old contents: all that are not in place."""
        return tuple(run for run in self.runs if not run.in_place)

    @property
    def moved_size(self) -> int:
        """Bytes that were moved away."""
        return sum(run.size for run in self.moved)

    def now(self, addr: int) -> int | None:
        """Address after the switch of the byte that was at `addr`; None for a page that was free
        and has been overwritten in place."""
        index = bisect_right(self.runs, addr, key=lambda run: run.dest) - 1
        if index < 0:
            return addr
        run = self.runs[index]
        if addr >= run.dest + run.size:
            return addr
        return None if run.in_place else run.source + addr - run.dest

    def now_range(self, span: PhysRange) -> PhysRange | None:
        """The same for a range; None if it does not stay in one piece."""
        start = self.now(span.start)
        if start is None:
            return None
        distance = start - span.start
        at = span.start
        first = max(bisect_right(self.runs, at, key=lambda run: run.dest) - 1, 0)
        for run in islice(self.runs, first, None):
            both = run.dest_range.intersect(span)
            if run.dest >= span.end:
                break
            if both is None:
                continue
            stays = at == both.start or distance == 0
            if run.in_place or run.source - run.dest != distance or not stays:
                return None
            at = both.end
        if at < span.end and distance:
            return None
        return PhysRange.sized(start, span.size)


def _joined(runs: Iterable[tuple[int, int, int]]) -> tuple[BackupRun, ...]:
    """(dest, source, size) as runs; those that continue each other on both sides are merged."""
    found: list[BackupRun] = []
    dest = source = size = 0
    for next_dest, next_source, next_size in sorted(runs):
        if size and (next_dest, next_source) == (dest + size, source + size):
            size += next_size
            continue
        if size:
            found.append(BackupRun(dest, source, size))
        dest, source, size = next_dest, next_source, next_size
    if size:
        found.append(BackupRun(dest, source, size))
    return tuple(found)
