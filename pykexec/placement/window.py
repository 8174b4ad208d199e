"""The window of a crash by normal: the memory that the capture kernel will use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.errors import DoesNotFit, UsageError
from pykexec.memory.hole import NoHole, locate_hole
from pykexec.memory.ranges import PhysRange, RangeSet, sized
from pykexec.remedies import Another, Wish, and_also, saying

if TYPE_CHECKING:
    from pykexec.images.kernel_image import KernelImage
    from pykexec.machine import Machine
    from pykexec.placement.boot_protocol import BootProtocol
    from pykexec.placement.request import LoadRequest


class WindowRefused(DoesNotFit):
    """A window that cannot hold this kernel, whatever its contents."""

    code = "window"


def requested_window(request: LoadRequest, page_size: int) -> PhysRange | None:
    """--mem-min and --mem-max as a half-open range in whole pages of `page_size` bytes; None if the
    user gave neither."""
    if request.mem_min is None and request.mem_max is None:
        return None
    low = request.mem_min or 0
    high = (1 << 64) - 1 if request.mem_max is None else request.mem_max
    if high < low:
        raise UsageError(
            f"the highest address {high:#x} is below the lowest, {low:#x}",
            hint=saying(Wish.MEM_MIN, " and ", Wish.MEM_MAX, " are inclusive"),
        )
    window = PhysRange.from_inclusive(low, high).inward(page_size)
    if window is None:
        raise UsageError(
            f"there is no whole page between {low:#x} and {high:#x}",
            hint=f"give inclusive addresses: a page is {page_size:#x} to {2 * page_size - 1:#x}",
        )
    return window


def capture_window(
    protocol: BootProtocol,
    image: KernelImage,
    machine: Machine,
    request: LoadRequest,
    size: int,
    headers_at: PhysRange | None = None,
) -> PhysRange:
    """The memory that the capture kernel will use, without `headers_at`.

    With both bounds and no --crash-size it is everything between them. Otherwise `size` bytes are
    chosen inside, from the top, if possible in the preferred part. It avoids memory that other CPUs
    may still need, if known: the running kernel's image, and its per-CPU data with the stacks on
    which they halt. Raises WindowRefused.
    """
    page_size = protocol.arch.page_size
    asked = requested_window(request, page_size)
    if asked and request.mem_min is not None and request.mem_max is not None:
        protocol.refuse_window(asked, image)
        if not request.crash_size or request.crash_size >= asked.size:
            return asked
    limits = protocol.limits
    inside = asked or limits.window
    ours = (machine.crash_kernel or RangeSet()) | RangeSet.of([headers_at] if headers_at else [])
    ours |= machine.hardware_memory
    ram = machine.known_map.whole_page_ram(page_size).within(limits.destinations) - ours
    spared = ram - (machine.kernel_image or RangeSet()) - (machine.per_cpu or RangeSet())
    for free, bounds in (
        (spared, inside.intersect(limits.preferred)),
        (spared, inside),
        (ram, inside),
    ):
        if bounds:
            try:
                found = locate_hole(free, size, align=limits.window_align, window=bounds)
            except NoHole as error:
                refusal = error
                continue
            protocol.refuse_window(found, image)
            return found
    raise WindowRefused(
        f"no contiguous range of {sized(size)} of RAM for the capture kernel"
        + (f" in {asked}" if asked else ""),
        hint=and_also(Another("a smaller", Wish.CRASH_SIZE), refusal.remedy or ""),
        size=size,
    )
