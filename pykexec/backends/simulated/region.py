"""A crash region made and released while the first kernel runs, as with the kernel module on a real
machine: contiguous free frames become the reservation, and are freed later."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pykexec.abi.x86.page import PAGE_SIZE
from pykexec.backends.backend import Slot
from pykexec.backends.kernel.record import unloading
from pykexec.backends.region import NoContiguousMemory, NoRegion, RegionExists, RegionInUse
from pykexec.backends.simulated.kernel.frames import FREE, RESERVED
from pykexec.host.lock import Busy
from pykexec.memory.hole import NoHole, locate_hole
from pykexec.memory.ranges import ALL_MEMORY, PhysRange, RangeSet
from pykexec.remedies import Wish, saying

if TYPE_CHECKING:
    from pykexec.backends.simulated.kernel.running import SimulatedKernel

FOUR_GIB = 1 << 32
RELEASE = "run pykexec region release"


def make(kernel: SimulatedKernel, size: int) -> PhysRange:
    """Make a region of `size` bytes, whole pages, below 4 GiB if possible. Raises
    NoContiguousMemory, RegionExists, Busy. Unlike the real kernel, this one does not move pages to
    make room."""
    _refuse_busy(kernel)
    kernel.boot_if_down()
    if kernel.layout.reservation:
        raise RegionExists("there is a crash region already", hint=RELEASE)
    free = kernel.frames.of(FREE)
    region = _hole(free, size)
    kernel.start = replace(
        kernel.start,
        layout=replace(kernel.layout, reservation=region, region_made=True),
    )
    kernel.frames.give((region,), RESERVED)
    kernel.ram.zero(region.start, region.size)
    return region


def _hole(free: RangeSet, size: int) -> PhysRange:
    """The highest place below 4 GiB, or else above."""
    for window in (PhysRange(0, FOUR_GIB), ALL_MEMORY):
        try:
            return locate_hole(free, size, align=PAGE_SIZE, window=window)
        except NoHole:
            continue
    raise NoContiguousMemory(
        f"no {size >> 10} KiB of contiguous free memory",
        hint="use a smaller size, or a machine with less memory in use",
    )


def release(kernel: SimulatedKernel) -> None:
    """Raises NoRegion, RegionInUse, RegionExists for a region reserved at boot, Busy."""
    _refuse_busy(kernel)
    layout = kernel.layout
    if layout.reservation is None:
        raise NoRegion("there is no crash region", hint="run pykexec region make")
    if not layout.region_made:
        raise RegionExists(
            "the crash region was reserved at boot",
            hint=saying("create the machine without ", Wish.RESERVATION),
        )
    if Slot.CRASH in kernel.images:
        raise RegionInUse("a crash image is loaded", hint=unloading(Slot.CRASH))
    kernel.frames.free((layout.reservation,))
    forget(kernel)


def forget(kernel: SimulatedKernel) -> None:
    """After a release or a switch: the next kernel does not know about the region."""
    if kernel.layout.region_made:
        gone = replace(kernel.layout, reservation=None, region_made=False)
        kernel.start = replace(kernel.start, layout=gone)


def _refuse_busy(kernel: SimulatedKernel) -> None:
    if kernel.gates.busy:
        raise Busy("another process holds the kexec lock", hint="wait until it has finished")
