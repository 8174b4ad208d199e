"""kimage_alloc_normal ... kimage_terminate: an image whose pages can be anywhere.

kernel/kexec_core.c: kimage_alloc_normal_control_pages, kimage_alloc_page, kimage_add_entry,
kimage_load_normal_segment. One difference: all pages are allocated before any is filled, so that
"no memory" takes precedence over "cannot be read".
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from pykexec.abi.x86.page import PAGE_SIZE
from pykexec.backends.page_list import (
    DESTINATION,
    DONE,
    INDIRECTION,
    SOURCE,
    WORD_SIZE,
)
from pykexec.backends.simulated.kernel.kimage import KImage, LoadedSegment, frames_of
from pykexec.images.contents import Contents, copied
from pykexec.memory.ranges import PhysRange, RangeSet

if TYPE_CHECKING:
    from pykexec.backends.simulated.kernel.allocators import Allocator
    from pykexec.backends.simulated.kernel.ram import Ram
    from pykexec.placement.segment import Segment, SegmentTable

SWAP_PAGE = "swap page"
"""The purpose of that control page."""
WORDS_PER_PAGE = PAGE_SIZE // WORD_SIZE
NOT_LOADED = 0
"""In place of an index in the list; no page has index 0, which is a destination word."""


class OutOfMemory(Exception):
    """The kernel's ENOMEM, passed up to the system call; `what` was being allocated."""

    def __init__(self, what: str, segment: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.segment = segment


class KImageBuilder:
    """Builds a kimage. Uses frame numbers internally, addresses in the words."""

    def __init__(self, segments: Sequence[Segment], allocator: Allocator) -> None:
        self.segments = [segment for segment in segments if segment.memsz]
        self.allocator = allocator
        self.words = array("Q")
        """kimage_entry_t: consecutive complete list pages, including links."""
        self.list_pages: list[int] = []
        self.parked: set[int] = set()
        self.control: list[int] = []
        # Destinations sorted by frame number: first frame, end, and the index in `places` of the
        # first.
        self.dests: list[tuple[int, int, int]] = []
        count = 0
        for segment in sorted(self.segments, key=lambda item: item.mem):
            first = segment.mem // PAGE_SIZE
            self.dests.append((first, first + segment.pages(PAGE_SIZE), count))
            count += segment.pages(PAGE_SIZE)
        self.firsts = [dest[0] for dest in self.dests]
        self.places = array("Q", bytes(8 * count))
        """For each destination page: index of its source word, or NOT_LOADED."""

    def place(self, pfn: int) -> int | None:
        """Index in `places` of a destination frame; None for any other frame."""
        at = bisect_right(self.firsts, pfn) - 1
        if at < 0 or pfn >= self.dests[at][1]:
            return None
        first, _, count = self.dests[at]
        return count + pfn - first

    def control_pages(self, order: int, what: str) -> int:
        """kimage_alloc_normal_control_pages: adjacent frames, none of them a destination. Returns
        the number of the first; unsuitable blocks are held until the end."""
        count = 1 << order
        extra: list[int] = []
        while True:
            block = self.allocator.block(order)
            if block is None:
                raise OutOfMemory(what)
            if all(self.place(block + n) is None for n in range(count)):
                break
            extra.append(block)
        for other in extra:
            self.allocator.give_back(other, count)
        self.control.extend(range(block, block + count))
        return block

    def page(self, want: int | None, what: str) -> int:
        """kimage_alloc_page: a frame for destination `want`, or for the list (None). It is `want`
        itself, or not a destination at all."""
        if want is not None and want in self.parked:
            self.parked.remove(want)
            return want
        while True:
            pfn = self.allocator.page()
            if pfn is None:
                raise OutOfMemory(what)
            if pfn == want:
                return pfn
            place = self.place(pfn)
            if place is None:
                return pfn
            index = self.places[place]
            if index != NOT_LOADED:
                # Its page is loaded already: make that one in-place, and use its old source.
                old = self.words[index] // PAGE_SIZE
                self.words[index] = pfn * PAGE_SIZE | SOURCE
                return old
            self.parked.add(pfn)

    def add_entry(self, word: int) -> None:
        """kimage_add_entry: a list page has 511 words and a link."""
        if len(self.words) % WORDS_PER_PAGE == (WORDS_PER_PAGE - 1 if self.words else 0):
            page = self.page(None, "page list")
            if self.words:
                self.words.append(page * PAGE_SIZE | INDIRECTION)
            self.list_pages.append(page)
        self.words.append(word)

    def load_segment(self, segment: Segment) -> None:
        """The allocations of kimage_load_normal_segment."""
        self.add_entry(segment.mem | DESTINATION)
        first = segment.mem // PAGE_SIZE
        for dest in range(first, first + segment.pages(PAGE_SIZE)):
            try:
                pfn = self.page(dest, "source page")
                self.add_entry(pfn * PAGE_SIZE | SOURCE)
            except OutOfMemory as error:
                raise OutOfMemory(error.what, segment.name) from None
            self.places[self.place(dest) or 0] = len(self.words) - 1

    def terminate(self) -> int:
        """kimage_terminate: write the last word; returns the head."""
        self.words.append(DONE)
        self.words.extend([0] * (-len(self.words) % WORDS_PER_PAGE))
        return self.list_pages[0] * PAGE_SIZE | INDIRECTION if self.list_pages else DONE

    def sources(self, segment: Segment) -> Iterator[int]:
        """Frame numbers of its source pages, in order."""
        start = self.place(segment.mem // PAGE_SIZE) or 0
        for index in self.places[start : start + segment.pages(PAGE_SIZE)]:
            yield self.words[index] // PAGE_SIZE


def load_normal(
    table: SegmentTable,
    allocator: Allocator,
    ram: Ram,
    *,
    control_orders: Sequence[tuple[int, str]],
    by_normal: bool,
) -> KImage:
    """Allocate, link and fill. `control_orders` has the control pages, one of them SWAP_PAGE.

    Raises OutOfMemory, and errors of reading the contents.
    """
    image = KImageBuilder(table.segments, allocator)
    control = {what: image.control_pages(order, what) for order, what in control_orders}
    for segment in image.segments:
        image.load_segment(segment)
    head = image.terminate()
    for number, page in enumerate(image.list_pages):
        words = image.words[number * WORDS_PER_PAGE : (number + 1) * WORDS_PER_PAGE]
        ram.write(page * PAGE_SIZE, words.tobytes())
    for segment in image.segments:
        fill(ram, _runs_of(image.sources(segment)), segment.buf)
    return KImage(
        start=table.entry,
        head=head,
        segments=tuple(LoadedSegment(s.name, s.mem, s.memsz, s.bufsz) for s in table.segments),
        control_pages=_pages_of(image.control),
        swap_page=control[SWAP_PAGE] * PAGE_SIZE,
        parked=_pages_of(image.parked),
        by_normal=by_normal,
    )


def _pages_of(pfns: Iterable[int]) -> RangeSet:
    return frames_of(tuple(pfn * PAGE_SIZE for pfn in pfns))


def _runs_of(pfns: Iterable[int]) -> Iterator[PhysRange]:
    """Adjacent frames as one range each, in the given order."""
    start = end = -1
    for pfn in pfns:
        if pfn != end:
            if start >= 0:
                yield PhysRange(start * PAGE_SIZE, end * PAGE_SIZE)
            start = pfn
        end = pfn + 1
    if start >= 0:
        yield PhysRange(start * PAGE_SIZE, end * PAGE_SIZE)


def fill(ram: Ram, runs: Iterable[PhysRange], contents: Contents | None) -> None:
    """Write `contents` to the runs, and zeros to the rest of them.

    The bytes arrive in chunks of any size; a partial page is kept until the rest arrives.
    """
    places = iter(runs)
    place = next(places, None)
    at = place.start if place else 0
    waiting = bytearray()
    for chunk in copied(contents) if contents else ():
        waiting += chunk
        done = 0
        while place and len(waiting) - done >= PAGE_SIZE:
            step = min(place.end - at, (len(waiting) - done) // PAGE_SIZE * PAGE_SIZE)
            ram.write(at, waiting[done : done + step])
            done += step
            at += step
            if at == place.end:
                place = next(places, None)
                at = place.start if place else 0
        del waiting[:done]
    if waiting and place:
        ram.write(at, bytes(waiting).ljust(PAGE_SIZE, b"\0"))
        at += PAGE_SIZE
    while place:
        if at < place.end:
            ram.zero(at, place.end - at)
        place = next(places, None)
        at = place.start if place else 0
