"""Memory of our own in which a capture kernel waits for a panic, as a plan sees it."""

from __future__ import annotations

from collections.abc import Iterator

from pykexec.abi.hugetlb import HUGE_PAGE_SIZE
from pykexec.crash.backup_map import BackupMap, BackupRun
from pykexec.frozen import dataclass
from pykexec.memory.ranges import PhysRange, RangeSet


@dataclass(frozen=True, slots=True)
class StageFrames:
    """Huge pages at known physical addresses.

    `image` are the pages that hold the window's bytes, in the window's order; empty in mode
    in-place, where the window is itself memory of ours. `low` takes the old contents of the
    pages below 640 KiB, `headers` the ELF core headers.
    """

    window: PhysRange
    low: PhysRange
    headers: PhysRange
    image: tuple[int, ...] = ()

    @property
    def ours(self) -> RangeSet:
        """Not the first kernel's data: left out of the dump."""
        pages = (PhysRange.sized(addr, HUGE_PAGE_SIZE) for addr in self.image)
        window = () if self.image else (self.window,)
        return RangeSet.of((self.low, self.headers, *pages, *window))

    def exchanges(self, low_memory: RangeSet) -> BackupMap:
        """What the stub exchanges: the low pages, and each page of a scattered stage with its
        part of the window. After that the stage holds the window's old contents."""
        runs = [
            BackupRun(span.start, self.low.start + span.start, span.size) for span in low_memory
        ]
        runs += [
            BackupRun(self.window.start + number * HUGE_PAGE_SIZE, addr, HUGE_PAGE_SIZE)
            for number, addr in enumerate(self.image)
        ]
        return BackupMap.of(runs)


@dataclass(frozen=True, slots=True)
class StagedPiece:
    """`size` bytes of something that belong at `dest` and wait at `source`."""

    dest: int
    source: int
    size: int


def staged_pieces(span: PhysRange, exchanges: BackupMap) -> Iterator[StagedPiece]:
    """Where the bytes of a span wait, in order: in its exchange's source, else in place."""
    at = span.start
    for run in exchanges:
        both = run.dest_range.intersect(span)
        if both is None:
            continue
        if at < both.start:
            yield StagedPiece(at, at, both.start - at)
        yield StagedPiece(both.start, run.source + both.start - run.dest, both.size)
        at = both.end
    if at < span.end:
        yield StagedPiece(at, at, span.end - at)
