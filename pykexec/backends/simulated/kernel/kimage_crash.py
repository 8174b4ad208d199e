"""An image in the reservation: written to where it will run, so that nothing is moved.

kernel/kexec_core.c: kimage_alloc_crash_control_pages, kimage_load_crash_segment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pykexec.abi.x86.page import PAGE_SIZE
from pykexec.backends.page_list import DONE
from pykexec.backends.simulated.kernel.kimage import KImage, LoadedSegment
from pykexec.backends.simulated.kernel.kimage_normal import OutOfMemory, fill
from pykexec.memory.ranges import PhysRange, RangeSet, align_up

if TYPE_CHECKING:
    from pykexec.backends.simulated.kernel.ram import Ram
    from pykexec.placement.segment import SegmentTable


def crash_control_pages(
    reservation: PhysRange, segments: RangeSet, orders: Sequence[tuple[int, str]]
) -> RangeSet:
    """Blocks from the start of the reservation up, each aligned to its size, around the segments.
    Raises OutOfMemory if the end is reached (kernel-contract 6.3)."""
    taken: list[PhysRange] = []
    control_page = reservation.start
    for order, what in orders:
        size = PAGE_SIZE << order
        start = align_up(control_page, size)
        while True:
            if start + size > reservation.end:
                raise OutOfMemory(f"{what} in the reservation {reservation}")
            met = segments.within(PhysRange.sized(start, size))
            if not met:
                break
            blocking = segments.around(met.ranges[0].start)
            start = align_up(blocking.end if blocking else start + size, size)
        taken.append(PhysRange.sized(start, size))
        control_page = start + size
    return RangeSet.of(taken)


def load_crash(
    table: SegmentTable,
    reservation: PhysRange,
    ram: Ram,
    *,
    control_orders: Sequence[tuple[int, str]],
) -> KImage:
    """Carve out the control pages, then write every segment. Raises OutOfMemory, and errors of
    reading the contents."""
    segments = [segment for segment in table.segments if segment.memsz]
    control = crash_control_pages(
        reservation, RangeSet.of(segment.range for segment in segments), control_orders
    )
    for segment in segments:
        fill(ram, (segment.range,), segment.buf)
    return KImage(
        start=table.entry,
        head=DONE,
        segments=tuple(LoadedSegment(s.name, s.mem, s.memsz, s.bufsz) for s in table.segments),
        control_pages=control,
        swap_page=None,
        parked=RangeSet(),
    )
