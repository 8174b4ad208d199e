"""Which free frame alloc_pages() returns next.

The buddy allocator is modelled as "some free frame": a policy is an order in which free frames are
offered. A freed frame is the next one to be allocated, as from the kernel's per-CPU lists.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from random import Random

from pykexec.backends.simulated.kernel.frames import FREE, Frames

Order = Callable[[Frames, Random], Iterator[int]]
"""Offers frame numbers; some may no longer be free."""

SHORTEST_FRAGMENT = 4
LONGEST_FRAGMENT = 64
"""Frames in one piece of a fragmented machine's free memory."""


def lowest(frames: Frames, rng: Random) -> Iterator[int]:
    for first, end in frames.runs(FREE):
        yield from range(first, end)


def highest(frames: Frames, rng: Random) -> Iterator[int]:
    for first, end in reversed(list(frames.runs(FREE))):
        yield from range(end - 1, first - 1, -1)


def random(frames: Frames, rng: Random) -> Iterator[int]:
    """Single frames all over memory, which gives the largest number of program headers."""
    left = array("I")
    for first, end in frames.runs(FREE):
        left.extend(range(first, end))
    for last in range(len(left) - 1, -1, -1):
        choice = int(rng.random() * (last + 1))
        pfn = left[choice]
        left[choice] = left[last]
        yield pfn


def fragmented(frames: Frames, rng: Random) -> Iterator[int]:
    """Runs of at least SHORTEST_FRAGMENT in random order; shorter holes come last."""
    pieces: list[tuple[int, int]] = []
    crumbs: list[tuple[int, int]] = []
    span = LONGEST_FRAGMENT - SHORTEST_FRAGMENT + 1
    for start, end in frames.runs(FREE):
        first = start
        while end - first >= 2 * SHORTEST_FRAGMENT:
            length = SHORTEST_FRAGMENT + int(rng.random() * span)
            if end - first - length < SHORTEST_FRAGMENT:
                length = end - first
            pieces.append((first, first + length))
            first += length
        if first < end:
            (pieces if end - first >= SHORTEST_FRAGMENT else crumbs).append((first, end))
    for last in range(len(pieces) - 1, -1, -1):
        choice = int(rng.random() * (last + 1))
        pieces[choice], pieces[last] = pieces[last], pieces[choice]
        yield from range(*pieces[last])
    for crumb in crumbs:
        yield from range(*crumb)


class Policy(StrEnum):
    """`machine create --allocator`."""

    RANDOM = "random"
    LOWEST = "lowest"
    HIGHEST = "highest"
    FRAGMENTED = "fragmented"

    @property
    def order(self) -> Order:
        return ORDERS[self]


ORDERS: dict[Policy, Order] = {
    Policy.RANDOM: random,
    Policy.LOWEST: lowest,
    Policy.HIGHEST: highest,
    Policy.FRAGMENTED: fragmented,
}


def scripted(pfns: Iterable[int]) -> Order:
    """For tests: these frames in this order, then the lowest."""

    def order(frames: Frames, rng: Random) -> Iterator[int]:
        yield from pfns
        yield from lowest(frames, rng)

    return order


class Allocator:
    """alloc_pages() and __free_pages(); numbers are frame numbers."""

    def __init__(self, frames: Frames, order: Order, rng: Random) -> None:
        self.frames = frames
        self.order = order
        self.rng = rng
        self.offered = order(frames, rng)
        self.blocks_offered: dict[int, Iterator[int]] = {}
        self.returned: list[int] = []

    def page(self) -> int | None:
        """A frame, or None if there is no free memory."""
        frames = self.frames
        while self.returned:
            pfn = self.returned.pop()
            if frames.is_free(pfn):
                frames.take(pfn)
                return pfn
        for pfn in self.offered:
            if frames.is_free(pfn):
                frames.take(pfn)
                return pfn
        return None

    def block(self, order: int) -> int | None:
        """The first of 2**order adjacent frames, aligned to that number, or None."""
        if not order:
            return self.page()
        count = 1 << order
        if order not in self.blocks_offered:
            self.blocks_offered[order] = self.order(self.frames, self.rng)
        for pfn in self.blocks_offered[order]:
            first = pfn - pfn % count
            if all(self.frames.is_free(first + n) for n in range(count)):
                self.frames.take(first, count)
                return first
        return None

    def give_back(self, pfn: int, count: int = 1) -> None:
        for number in range(pfn, pfn + count):
            self.frames.give_back(number)
            self.returned.append(number)
