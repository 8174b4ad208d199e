"""The owners of physical frames, stored as one byte per frame."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from pykexec.abi.x86.page import PAGE_SIZE
from pykexec.memory.ranges import PhysRange, RangeSet

if TYPE_CHECKING:
    from pykexec.backends.simulated.kernel.layout import Layout

NO_RAM, FREE, IN_USE, KERNEL, RESERVED, IMAGE, FREE_MOVABLE = range(7)
"""Owners. A frame that is only partly RAM is NO_RAM; FREE_MOVABLE is one in ZONE_MOVABLE,
from which the kernel takes no frame for itself."""


class Frames:
    """Only an allocator changes it; everything else reads."""

    def __init__(self, layout: Layout) -> None:
        pages = -(-layout.size // PAGE_SIZE)
        self.owners = bytearray(pages)
        self.give(layout.memory_map.whole_page_ram(PAGE_SIZE), FREE)
        self.give(layout.movable, FREE_MOVABLE)
        self.give(layout.in_use, IN_USE)
        self.give(layout.kernel, KERNEL)
        self.give(layout.reserved, RESERVED)

    def give(self, spans: Iterable[PhysRange], owner: int) -> None:
        """Assign whole frames to an owner."""
        for span in spans:
            first, last = span.start // PAGE_SIZE, span.end // PAGE_SIZE
            self.owners[first:last] = bytes((owner,)) * (last - first)

    def of(self, owner: int) -> RangeSet:
        """All frames of an owner."""
        return RangeSet(tuple(PhysRange(a * PAGE_SIZE, b * PAGE_SIZE) for a, b in self.runs(owner)))

    def runs(self, owner: int) -> Iterator[tuple[int, int]]:
        """[first, end) frame numbers of each run, ascending."""
        for run in re.finditer(b"[\\x%02x]+" % owner, bytes(self.owners)):
            yield run.start(), run.end()

    def count(self, owner: int) -> int:
        return self.owners.count(owner)

    def is_free(self, pfn: int) -> bool:
        return pfn < len(self.owners) and self.owners[pfn] == FREE

    def take(self, pfn: int, count: int = 1) -> None:
        """Take free frames for an image."""
        self.owners[pfn : pfn + count] = bytes((IMAGE,)) * count

    def free(self, spans: Iterable[PhysRange]) -> None:
        """Free the frames of an image."""
        self.give(spans, FREE)

    def give_back(self, pfn: int) -> None:
        self.owners[pfn] = FREE
