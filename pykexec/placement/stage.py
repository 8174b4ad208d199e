"""The stage in a plan: memory that holds a capture kernel until a panic."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from pykexec.abi.hugetlb import HUGE_PAGE_SIZE
from pykexec.crash.backup_map import BackupMap, BackupRun
from pykexec.frozen import dataclass
from pykexec.memory.ranges import PhysRange, RangeSet
from pykexec.placement.request import Mode

if TYPE_CHECKING:
    from pykexec.placement.limits import Limits

LOW_MIN = 64 << 10
"""Bytes: a whole page of every kernel, where there is no low memory."""


@dataclass(frozen=True, slots=True)
class StageFrames:
    """Huge pages at known physical addresses.

    `image` has the pages with the window's bytes, in the window's order; empty in mode in-place,
    where the window itself is held. `low` is for the old contents of the pages below 640 KiB,
    `headers` for the ELF core headers; both are None where the headers are in the window.

    In mode lent `slots` has the numbers of the window's 2 MiB slots that have pages in `image`,
    ascending; the rest of the window is lent. None if there is a page for each.
    """

    window: PhysRange
    low: PhysRange | None
    headers: PhysRange | None
    image: tuple[int, ...] = ()
    slots: tuple[int, ...] | None = None
    movable: bool = False
    """Whether the window is in memory with only movable pages."""

    @property
    def lent(self) -> RangeSet:
        """The parts of the window that others use until the panic, and whose contents are then
        lost."""
        if self.slots is None:
            return RangeSet()
        return RangeSet((self.window,)) - RangeSet.of(map(self.slot, self.slots))

    def slot(self, number: int) -> PhysRange:
        """A 2 MiB slot of the window."""
        return PhysRange.sized(self.window.start + number * HUGE_PAGE_SIZE, HUGE_PAGE_SIZE)

    @property
    def left_out(self) -> RangeSet:
        """Memory that is not in the dump."""
        return self.ours | self.lent

    @property
    def ours(self) -> RangeSet:
        """Memory that is held since the load, and is not data of the first kernel."""
        pages = (PhysRange.sized(addr, HUGE_PAGE_SIZE) for addr in self.image)
        window = () if self.image else (self.window,)
        apart = (span for span in (self.low, self.headers) if span)
        return RangeSet.of((*apart, *pages, *window))

    def exchanges(self, low_memory: RangeSet) -> BackupMap:
        """The stub's exchanges: the low pages, and each page of a scattered stage with its part of
        the window. After that the stage has the window's old contents."""
        at = self.low.start if self.low else 0
        runs = [BackupRun(span.start, at + span.start, span.size) for span in low_memory]
        numbers = range(len(self.image)) if self.slots is None else self.slots
        runs += [
            BackupRun(self.slot(number).start, addr, HUGE_PAGE_SIZE)
            for number, addr in zip(numbers, self.image, strict=True)
        ]
        return BackupMap.of(runs)


def pages_apart(limits: Limits, mode: Mode) -> int:
    """Huge pages besides those of the window: for low memory and headers, which share one in mode
    lent."""
    if limits.headers_inside:
        return 0
    return 1 if mode is Mode.LENT else 2


def frames_of(
    limits: Limits,
    mode: Mode,
    window: PhysRange,
    pages: Sequence[int],
    *,
    slots: tuple[int, ...] | None = None,
    movable: bool = False,
) -> StageFrames:
    """A stage of `pages_apart` pages and those of the window, in ascending order."""
    if limits.headers_inside:
        return StageFrames(window, None, None, tuple(pages), slots, movable)
    low = limits.low_memory
    low_end = (low.end if low else 0) if mode is Mode.LENT else None
    return frames_in(window, pages, low_end=low_end, slots=slots, movable=movable)


def frames_in(
    window: PhysRange,
    pages: Sequence[int],
    *,
    low_end: int | None = None,
    slots: tuple[int, ...] | None = None,
    movable: bool = False,
) -> StageFrames:
    """The first two huge pages, by address, are for low memory and headers, the rest for the image.
    With `low_end`, the end of the low memory, the two share the first page."""
    if low_end is None:
        low, headers = (PhysRange.sized(at, HUGE_PAGE_SIZE) for at in pages[:2])
        return StageFrames(window, low, headers, tuple(pages[2:]), slots, movable)
    low = PhysRange.sized(pages[0], max(low_end, LOW_MIN))
    headers = PhysRange(low.end, pages[0] + HUGE_PAGE_SIZE)
    return StageFrames(window, low, headers, tuple(pages[1:]), slots, movable)


def slots_of(window: PhysRange, spans: Iterable[PhysRange]) -> frozenset[int]:
    """The numbers of the window's 2 MiB slots that the spans inside it touch."""
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
    """`size` bytes that belong at `dest` and are staged at `source`."""

    dest: int
    source: int
    size: int


def staged_pieces(span: PhysRange, exchanges: BackupMap) -> Iterator[StagedPiece]:
    """Where the bytes of a span are staged, in order: in the source of an exchange, or in place."""
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
