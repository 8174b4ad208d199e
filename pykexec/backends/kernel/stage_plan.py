"""Which huge pages a mode needs, and their addresses."""

from __future__ import annotations

from pykexec.abi.hugetlb import HUGE_PAGE_SIZE
from pykexec.abi.kexec import KexecFlag
from pykexec.backends.kernel import stage
from pykexec.backends.kernel.journal import Journal
from pykexec.backends.kernel.relocation import relocation
from pykexec.backends.kernel.runs import Wanted, search_limit
from pykexec.backends.kernel.stage import HugePageSystem, NoRoomForStage, Stage
from pykexec.images.kernel_image import KernelImage
from pykexec.machine import Machine, Unknown
from pykexec.memory.map import MemoryMap
from pykexec.memory.ranges import PhysRange, RangeSet, align_up
from pykexec.placement.crash_by_normal import headers_room
from pykexec.placement.fill import low_memory
from pykexec.placement.granted import Granted
from pykexec.placement.panic_modes import panic_window
from pykexec.placement.request import LoadRequest, Mode
from pykexec.placement.stage import StageFrames
from pykexec.placement.window import requested_window
from pykexec.placement.x86 import layout

SINGLES = 2
"""Pages beside the image: one for the low memory, one for the headers."""


def granted_pages(
    image: KernelImage,
    machine: Machine,
    request: LoadRequest,
    mode: Mode,
    pages: HugePageSystem,
    journal: Journal,
) -> Granted:
    """Take the huge pages that `mode` needs. Raises NoRoomForStage, and then holds none."""
    limit = search_limit(0 if isinstance(machine.memavailable, Unknown) else machine.memavailable)
    if mode is Mode.KERNEL_SWAP:
        size, avoid = headers_room(image, machine, request)
        count = align_up(size, HUGE_PAGE_SIZE) // HUGE_PAGE_SIZE
        taken = stage.take(pages, journal, Wanted(run=count, avoid=avoid), limit)
        flags = relocation(machine).swap_flags or KexecFlag(0)
        return Granted(mode, headers_at=taken.run, flags=flags)
    reserved = machine.crash_kernel or RangeSet()
    low = low_memory(machine.known_map)
    window = panic_window(image, machine, request, mode)
    count = window.size // HUGE_PAGE_SIZE
    if mode is Mode.IN_PLACE:
        wanted = Wanted(
            run=count,
            singles=SINGLES,
            windows=places_in_place(request, machine.known_map),
            avoid=reserved | low,
        )
        taken = stage.take(pages, journal, wanted, limit)
        if taken.run is None:
            raise NoRoomForStage("no adjacent huge pages", hint="--mode stub-swap")
        return Granted(mode, stage=frames_of(taken, taken.run))
    off = reserved | low | RangeSet((window,))
    wanted = Wanted(singles=count + SINGLES, avoid=off)
    return Granted(mode, stage=frames_of(stage.take(pages, journal, wanted, limit), window))


def places_in_place(request: LoadRequest, memory_map: MemoryMap) -> tuple[PhysRange, ...]:
    """Below 4 GiB first: above, the capture kernel has no DMA32 pool. Not in memory that the
    capture kernel's drivers will look at anew."""
    asked = requested_window(request) or PhysRange(layout.INITRD_MIN, 1 << 46)
    above_floor = asked.intersect(PhysRange(layout.LOAD_PHYSICAL_ADDR, 1 << 46))
    if above_floor is None:
        return ()
    below = above_floor.intersect(layout.BELOW_4G)
    places = (below, above_floor) if below else (above_floor,)
    return tuple(span for place in places for span in RangeSet((place,)) - memory_map.driver_ram)


def frames_of(taken: Stage, window: PhysRange) -> StageFrames:
    """Of the single pages the lowest two are for low memory and headers; the rest, if any,
    hold the image."""
    low, headers, *rest = taken.singles
    return StageFrames(
        window,
        PhysRange.sized(low, HUGE_PAGE_SIZE),
        PhysRange.sized(headers, HUGE_PAGE_SIZE),
        tuple(rest),
    )
