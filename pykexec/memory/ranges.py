"""Half-open spans of physical addresses, in bytes, and their algebra.

A range is never empty. Text from the kernel has inclusive ends: only `PhysRange.from_inclusive`
accepts those.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

from pykexec.errors import UsageError
from pykexec.frozen import dataclass

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def sized(size: int) -> str:
    """A size for a message: in hexadecimal, and from 1 MiB up also in MiB."""
    if size < MIB:
        return f"{size:#x} bytes"
    mib = f"{size / MIB:.1f}".removesuffix(".0")
    return f"{size:#x} bytes ({mib} MiB)"


def align_up(value: int, align: int) -> int:
    """The lowest multiple of `align` (bytes) at or above `value`."""
    return -(-value // align) * align


def align_down(value: int, align: int) -> int:
    """The highest multiple of `align` (bytes) at or below `value`."""
    return value // align * align


class BadRange(UsageError):
    """A range that is empty, or exceeds 64 bits."""

    code = "bad-range"


@dataclass(frozen=True, order=True, slots=True)
class PhysRange:
    """[start, end) in bytes; 0 <= start < end <= 2**64."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end <= 1 << 64:
            raise BadRange(f"invalid range of physical addresses: {self.start:#x} to {self.end:#x}")

    @classmethod
    def from_inclusive(cls, start: int, last: int) -> PhysRange:
        """A range as in text from the kernel and in --mem-max: `last` belongs to it. Raises
        BadRange."""
        return cls(start, last + 1)

    @classmethod
    def sized(cls, start: int, size: int) -> PhysRange:
        """The range of `size` bytes from `start`. Raises BadRange if `size` is 0."""
        return cls(start, start + size)

    @property
    def size(self) -> int:
        return self.end - self.start

    @property
    def last(self) -> int:
        """The last address inside, as the kernel prints it."""
        return self.end - 1

    def __str__(self) -> str:
        return f"{self.start:#x}..{self.end:#x}"

    def __contains__(self, addr: int) -> bool:
        return self.start <= addr < self.end

    def covers(self, other: PhysRange) -> bool:
        """Whether all of `other` is inside."""
        return self.start <= other.start and other.end <= self.end

    def overlaps(self, other: PhysRange) -> bool:
        """Whether any byte is in both; ranges that only touch do not."""
        return self.start < other.end and other.start < self.end

    def intersect(self, other: PhysRange) -> PhysRange | None:
        """The range of the bytes in both, or None."""
        start, end = max(self.start, other.start), min(self.end, other.end)
        return PhysRange(start, end) if start < end else None

    def inward(self, align: int) -> PhysRange | None:
        """The aligned blocks of `align` bytes that are completely inside, or None."""
        start, end = align_up(self.start, align), align_down(self.end, align)
        return PhysRange(start, end) if start < end else None

    def outward(self, align: int) -> PhysRange:
        """The aligned blocks of `align` bytes that it touches."""
        return PhysRange(align_down(self.start, align), align_up(self.end, align))

    def is_aligned(self, align: int) -> bool:
        """Whether both ends are multiples of `align` (bytes)."""
        return self.start % align == 0 and self.end % align == 0


ALL_MEMORY = PhysRange(0, 1 << 64)


@dataclass(frozen=True, slots=True)
class RangeSet:
    """Sorted ranges that neither overlap nor touch; build one with `of`."""

    ranges: tuple[PhysRange, ...] = ()

    @classmethod
    def of(cls, ranges: Iterable[PhysRange]) -> RangeSet:
        """The union of any ranges, in any order."""
        joined: list[PhysRange] = []
        start = end = -1
        for item in sorted(ranges):
            if item.start <= end:
                end = max(end, item.end)
                continue
            if end >= 0:
                joined.append(PhysRange(start, end))
            start, end = item.start, item.end
        if end >= 0:
            joined.append(PhysRange(start, end))
        return cls(tuple(joined))

    def __iter__(self) -> Iterator[PhysRange]:
        return iter(self.ranges)

    def __len__(self) -> int:
        return len(self.ranges)

    def __bool__(self) -> bool:
        return bool(self.ranges)

    @property
    def size(self) -> int:
        """Total bytes."""
        return sum(item.size for item in self.ranges)

    def around(self, addr: int) -> PhysRange | None:
        """The range that contains this address."""
        index = bisect_right(self.ranges, addr, key=lambda item: item.start) - 1
        if index >= 0 and addr < self.ranges[index].end:
            return self.ranges[index]
        return None

    def __contains__(self, addr: int) -> bool:
        return self.around(addr) is not None

    def covers(self, other: PhysRange) -> bool:
        """Whether all of `other` is inside one range."""
        held = self.around(other.start)
        return held is not None and other.end <= held.end

    def overlaps(self, other: PhysRange) -> bool:
        """Whether any byte is in both; only the range that starts at or before its last byte
        can."""
        index = bisect_right(self.ranges, other.last, key=lambda item: item.start) - 1
        return index >= 0 and other.start < self.ranges[index].end

    def __or__(self, other: RangeSet) -> RangeSet:
        return RangeSet.of((*self.ranges, *other.ranges))

    def __and__(self, other: RangeSet) -> RangeSet:
        found: list[PhysRange] = []
        mine, theirs = iter(self.ranges), iter(other.ranges)
        a, b = next(mine, None), next(theirs, None)
        while a and b:
            both = a.intersect(b)
            if both:
                found.append(both)
            if a.end <= b.end:
                a = next(mine, None)
            else:
                b = next(theirs, None)
        return RangeSet(tuple(found))

    def __sub__(self, other: RangeSet) -> RangeSet:
        left: list[PhysRange] = []
        holes = iter(other.ranges)
        hole = next(holes, None)
        for item in self.ranges:
            start = item.start
            while hole and hole.end <= start:
                hole = next(holes, None)
            while hole and hole.start < item.end:
                if start < hole.start:
                    left.append(PhysRange(start, hole.start))
                start = hole.end
                if start >= item.end:
                    break
                hole = next(holes, None)
            if start < item.end:
                left.append(PhysRange(start, item.end))
        return RangeSet(tuple(left))

    def within(self, window: PhysRange) -> RangeSet:
        """The parts of the ranges inside `window`."""
        return self & RangeSet((window,))

    def without(self, hole: PhysRange) -> RangeSet:
        """The parts of the ranges outside of `hole`."""
        return self - RangeSet((hole,))

    def inward(self, align: int) -> RangeSet:
        """The aligned blocks of `align` bytes that are completely inside a range."""
        return RangeSet(tuple(whole for item in self.ranges if (whole := item.inward(align))))
