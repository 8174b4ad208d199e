"""The window of a crash by normal: the memory that the capture kernel will live in."""

from __future__ import annotations

from pykexec.abi.kexec import PAGE_SIZE
from pykexec.errors import DoesNotFit, UsageError
from pykexec.images.kernel_image import LinuxX86Boot
from pykexec.machine import Machine
from pykexec.memory.hole import NoHole, locate_hole
from pykexec.memory.map import MemoryMap
from pykexec.memory.ranges import PhysRange, RangeSet
from pykexec.placement.request import LoadRequest
from pykexec.placement.x86.layout import (
    ABOVE_16_MIB,
    BELOW_4G,
    DESTINATIONS,
    LOAD_PHYSICAL_ADDR,
    WINDOW_ALIGN,
)


class WindowRefused(DoesNotFit):
    """A window that cannot hold this kernel, whatever is in it."""

    code = "window"


def requested_window(request: LoadRequest) -> PhysRange | None:
    """--mem-min and --mem-max as a half-open range in whole pages; None without either."""
    if request.mem_min is None and request.mem_max is None:
        return None
    low = request.mem_min or 0
    high = (1 << 64) - 1 if request.mem_max is None else request.mem_max
    if high < low:
        raise UsageError(
            f"--mem-max {high:#x} is below --mem-min {low:#x}", hint="give inclusive addresses"
        )
    window = PhysRange.from_inclusive(low, high).inward(PAGE_SIZE)
    if window is None:
        raise UsageError(
            f"there is no whole page between {low:#x} and {high:#x}",
            hint="give inclusive addresses: a page is 0x1000 to 0x1fff",
        )
    return window


def capture_window(
    machine: Machine,
    memory_map: MemoryMap,
    request: LoadRequest,
    boot: LinuxX86Boot,
    size: int,
    headers_at: PhysRange | None = None,
) -> PhysRange:
    """Where the capture kernel will live; not at `headers_at`.

    With both bounds and no --crash-size it is all between them. Otherwise `size` bytes
    are chosen inside: below 4 GiB when there is room, from the top, off what other CPUs
    may still need when it is known: the running kernel's image, and its per-CPU data with
    the stacks they sleep on. Raises WindowRefused.
    """
    asked = requested_window(request)
    if asked and request.mem_min is not None and request.mem_max is not None:
        check_window(asked, boot)
        if not request.crash_size or request.crash_size >= asked.size:
            return asked
    inside = asked or ABOVE_16_MIB
    ours = (machine.crash_kernel or RangeSet()) | RangeSet.of([headers_at] if headers_at else [])
    ours |= machine.hardware_memory
    ram = memory_map.whole_page_ram.within(DESTINATIONS) - ours
    spared = ram - (machine.kernel_image or RangeSet()) - (machine.per_cpu or RangeSet())
    for free, bounds in (
        (spared, inside.intersect(BELOW_4G)),
        (spared, inside),
        (ram, inside),
    ):
        if bounds:
            try:
                found = locate_hole(free, size, align=WINDOW_ALIGN, window=bounds)
            except NoHole as error:
                refusal = error
                continue
            check_window(found, boot)
            return found
    raise WindowRefused(
        f"no contiguous range of {size:#x} bytes of RAM for the capture kernel"
        + (f" in {asked}" if asked else ""),
        hint=f"use a smaller --crash-size; {refusal.hint}",
        size=size,
    )


def check_window(window: PhysRange, boot: LinuxX86Boot) -> None:
    """A relocatable bzImage runs at max(load address, pref_address): below, it moves
    itself out of its segment (boot.rst; compressed/head_64.S)."""
    floor = max(boot.pref_address, LOAD_PHYSICAL_ADDR)
    if window.end < floor + boot.init_size:
        raise WindowRefused(
            f"the window {window} has no room for this kernel: loaded below {floor >> 20} "
            f"MiB, it moves itself to {floor:#x}, where it needs {boot.init_size:#x} bytes",
            hint=f"use --mem-max {floor + boot.init_size - 1:#x} or above",
            window=window,
        )
