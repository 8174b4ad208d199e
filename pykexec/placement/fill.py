"""The fill of a crash by normal: memory that the capture kernel may use but that is not in a
segment would be lost from the dump, so all of it becomes memory-only segments."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pykexec.abi.kexec import KEXEC_SEGMENT_MAX
from pykexec.errors import DoesNotFit
from pykexec.memory.ranges import PhysRange, RangeSet
from pykexec.placement.plan import Placed
from pykexec.placement.role import Role

WHY_FILL = "RAM of the capture kernel; memory outside of the segments would be lost from the dump"


class TooManySegments(DoesNotFit):
    """More pieces than KEXEC_SEGMENT_MAX, and none that can be folded."""

    code = "too-many-segments"


def fill(
    placed: Iterable[Placed], window: RangeSet, low: RangeSet, why_low: str
) -> tuple[Placed, ...]:
    """The placed objects, and memory-only pieces for the rest of `window` and `low`, which may
    overlap, in address order; folded to at most 16 pieces. Raises TooManySegments."""
    things = tuple(placed)
    taken = RangeSet.of(item.range for item in things)
    pieces = [
        *things,
        *(Placed(Role.LOW_MEMORY, span, why_low) for span in low - taken),
        *(Placed(Role.CAPTURE_MEMORY, span, WHY_FILL) for span in window - low - taken),
    ]
    return fold(sorted(pieces, key=lambda item: item.range))


def fold(pieces: list[Placed], limit: int = KEXEC_SEGMENT_MAX) -> tuple[Placed, ...]:
    """While there are more than `limit`, turn a gap into the zero-filled tail of the segment before
    it: the memory that the kernel exchanges is the same."""
    folded: list[Placed] = []
    excess = len(pieces) - limit
    for piece in pieces:
        if excess > 0 and folded and _may_fold(folded[-1], piece):
            before = folded[-1]
            whole = PhysRange(before.range.start, piece.range.end)
            folded[-1] = replace(before, range=whole)
            excess -= 1
        else:
            folded.append(piece)
    if excess > 0:
        low = sum(item.role is Role.LOW_MEMORY for item in folded)
        raise TooManySegments(
            f"{len(folded)} segments are needed, but kexec_load accepts only {limit}",
            hint="use a window inside one piece of RAM: each gap costs a segment, and "
            f"memory below 1 MiB costs {low}",
            count=len(folded),
        )
    return tuple(folded)


def _may_fold(before: Placed, gap: Placed) -> bool:
    """The segment of the headers must keep its size, because their seal is at its end."""
    return (
        gap.contents is None
        and gap.role is Role.CAPTURE_MEMORY
        and before.role is not Role.ELFCOREHDR
        and before.range.end == gap.range.start
    )
