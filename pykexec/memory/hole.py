"""The search for free memory, with the reason for each hole that was rejected."""

from __future__ import annotations

from pykexec.errors import DoesNotFit
from pykexec.frozen import dataclass
from pykexec.memory.ranges import ALL_MEMORY, PhysRange, RangeSet, align_down, align_up, sized

SHOWN = 3
"""Number of rejected holes to show in a hint."""


@dataclass(frozen=True, slots=True)
class RefusedHole:
    """A free range that cannot hold what is to be placed, and the rule that rejected it."""

    hole: PhysRange
    why: str
    usable: int = 0
    """Bytes of the hole inside the window."""

    def __str__(self) -> str:
        return f"{self.hole}: {self.why}"


class NoHole(DoesNotFit):
    """No free range is suitable; `refused` has a reason for each, and `name` is what was to be
    placed."""

    code = "no-hole"

    def __init__(
        self,
        size: int,
        align: int,
        window: PhysRange,
        refused: tuple[RefusedHole, ...],
        name: str = "",
    ) -> None:
        what = f"{name}: " if name else ""
        where = "" if window == ALL_MEMORY else f" in {window}"
        if window.start and window.end == ALL_MEMORY.end:
            where = f" at or above {window.start:#x}"
        super().__init__(
            f"{what}no free range of {sized(size)} aligned to {align:#x}{where}",
            hint=_largest_of(refused),
            size=size,
            align=align,
        )
        self.window = window
        self.refused = refused
        self.name = name


def _largest_of(refused: tuple[RefusedHole, ...]) -> str:
    """The largest holes in the window, in address order."""
    inside = sorted((item for item in refused if item.usable), key=lambda item: item.usable)
    shown = "; ".join(map(str, sorted(inside[-SHOWN:], key=lambda item: item.hole)))
    if shown or not refused:
        return shown or "there is no free memory at all"
    largest = max(refused, key=lambda item: item.hole.size).hole
    return f"all free memory is elsewhere: {largest} is the largest range"


def locate_hole(
    free: RangeSet,
    size: int,
    *,
    align: int,
    window: PhysRange = ALL_MEMORY,
    from_top: bool = True,
    name: str = "",
) -> PhysRange:
    """Find `size` bytes of `free` inside `window`, at the highest (or lowest) address that is a
    multiple of `align` (bytes; the size of a page, for whole pages).

    As kexec.c:locate_hole in kexec-tools. Raises NoHole with the reason for each hole; `name` is
    what was to be placed.
    """
    refused: list[RefusedHole] = []
    for hole in reversed(free.ranges) if from_top else free.ranges:
        found = _place_in(hole, size, align, window, from_top)
        if isinstance(found, PhysRange):
            return found
        refused.append(found)
    in_order = tuple(sorted(refused, key=lambda item: item.hole))
    raise NoHole(size, align, window, in_order, name)


def _place_in(
    hole: PhysRange, size: int, align: int, window: PhysRange, from_top: bool
) -> PhysRange | RefusedHole:
    """The place inside one hole, or the reason why there is none."""
    usable = hole.intersect(window)
    if usable is None:
        return RefusedHole(hole, "outside the window")
    whose = "" if usable == hole else " inside the window"
    if usable.size < size:
        why = f"{sized(usable.size)}{whose}, but {sized(size)} are needed"
        return RefusedHole(hole, why, usable.size)
    start = align_down(usable.end - size, align) if from_top else align_up(usable.start, align)
    if start < usable.start or start + size > usable.end:
        why = f"{sized(usable.size)}{whose}, not enough when aligned to {align:#x}"
        return RefusedHole(hole, why, usable.size)
    return PhysRange.sized(start, size)
