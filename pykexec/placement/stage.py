"""Memory of our own in which a capture kernel waits for a panic, as a plan sees it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pykexec.abi.hugetlb import HUGE_PAGE_SIZE
from pykexec.abi.kexec import PAGE_SIZE
from pykexec.crash.backup_map import BackupMap, BackupRun
from pykexec.frozen import dataclass
from pykexec.memory.ranges import PhysRange, RangeSet


@dataclass(frozen=True, slots=True)
class StageFrames:
    """Huge pages at known physical addresses.

    `image` are the pages that hold the window's bytes, in the window's order; empty in mode
    in-place, where the window is itself memory of ours. `low` takes the old contents of the
    pages below 640 KiB, `headers` the ELF core headers.

    In mode lent `slots` are the numbers of the window's 2 MiB that `image` has pages for, in
    rising order; the rest of the window is lent. None where it has a page for each.
    """

    window: PhysRange
    low: PhysRange
    headers: PhysRange
    image: tuple[int, ...] = ()
    slots: tuple[int, ...] | None = None
    movable: bool = False
    """Whether the window lies in memory that holds movable pages alone."""

    @property
    def lent(self) -> RangeSet:
        """The parts of the window that others use until the panic, and that are lost then."""
        if self.slots is None:
            return RangeSet()
        return RangeSet((self.window,)) - RangeSet.of(map(self.slot, self.slots))

    def slot(self, number: int) -> PhysRange:
        """2 MiB of the window."""
        return PhysRange.sized(self.window.start + number * HUGE_PAGE_SIZE, HUGE_PAGE_SIZE)

    @property
    def left_out(self) -> RangeSet:
        """What is not in the dump."""
        return self.ours | self.lent

    @property
    def ours(self) -> RangeSet:
        """Not the first kernel's data, and held from the load on."""
        pages = (PhysRange.sized(addr, HUGE_PAGE_SIZE) for addr in self.image)
        window = () if self.image else (self.window,)
        return RangeSet.of((self.low, self.headers, *pages, *window))

    def exchanges(self, low_memory: RangeSet) -> BackupMap:
        """What the stub exchanges: the low pages, and each page of a scattered stage with its
        part of the window. After that the stage holds the window's old contents."""
        runs = [
            BackupRun(span.start, self.low.start + span.start, span.size) for span in low_memory
        ]
        numbers = range(len(self.image)) if self.slots is None else self.slots
        runs += [
            BackupRun(self.slot(number).start, addr, HUGE_PAGE_SIZE)
            for number, addr in zip(numbers, self.image, strict=True)
        ]
        return BackupMap.of(runs)


def frames_in(
    window: PhysRange,
    pages: Sequence[int],
    *,
    low_end: int | None = None,
    slots: tuple[int, ...] | None = None,
    movable: bool = False,
) -> StageFrames:
    """Of huge pages, by address, the first two are for low memory and headers, the rest for the
    image. With `low_end`, the end of the low memory, the two share the first page."""
    if low_end is None:
        low, headers = (PhysRange.sized(at, HUGE_PAGE_SIZE) for at in pages[:2])
        return StageFrames(window, low, headers, tuple(pages[2:]), slots, movable)
    low = PhysRange.sized(pages[0], max(low_end, PAGE_SIZE))
    headers = PhysRange(low.end, pages[0] + HUGE_PAGE_SIZE)
    return StageFrames(window, low, headers, tuple(pages[1:]), slots, movable)


def slots_of(window: PhysRange, spans: Iterable[PhysRange]) -> frozenset[int]:
    """The numbers of the window's 2 MiB slots that the spans, which lie in it, touch."""
    return frozenset(
        number
        for span in spans
        for number in range(
            (span.start - window.start) // HUGE_PAGE_SIZE,
            (span.last - window.start) // HUGE_PAGE_SIZE + 1,
        )
    )


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
