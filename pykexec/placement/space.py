"""The free memory of one plan, from which objects are allocated one after the other."""

from __future__ import annotations

from pykexec.errors import DoesNotFit
from pykexec.memory.hole import locate_hole
from pykexec.memory.ranges import PhysRange, RangeSet, align_up


class PlaceTaken(DoesNotFit):
    """An image cannot be moved, and its address is not RAM or not in the window."""

    code = "place-taken"


class Space:
    """Free memory in pages of `page_size` bytes, which shrinks with every `take`."""

    def __init__(self, free: RangeSet, page_size: int) -> None:
        self.free = free
        self.page_size = page_size

    def take(
        self,
        name: str,
        size: int,
        *,
        align: int = 1,
        lowest: int = 0,
        below: int = 1 << 64,
        from_top: bool = True,
    ) -> PhysRange:
        """`size` bytes in whole pages between `lowest` and `below`, at a page that is a multiple of
        `align`. Raises NoHole."""
        window = PhysRange(lowest, below)
        whole, align = align_up(size, self.page_size), max(align, self.page_size)
        found = locate_hole(
            self.free, whole, align=align, window=window, from_top=from_top, name=name
        )
        self.free = self.free.without(found)
        return found

    def take_at(self, name: str, span: PhysRange) -> PhysRange:
        """Take exactly the pages that `span` touches. Raises PlaceTaken."""
        pages = span.outward(self.page_size)
        if not self.free.covers(pages):
            inside = ", ".join(str(item) for item in self.free.within(pages).ranges[:3])
            raise PlaceTaken(
                f"{name} must be at {pages}, but not all of that is usable RAM",
                hint=f"only {inside} is usable" if inside else "none of it is usable",
                span=pages,
            )
        self.free = self.free.without(pages)
        return pages
