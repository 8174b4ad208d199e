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
from pykexec.memory.ranges import PhysRange, RangeSet, align_up
from pykexec.placement.boot_protocol import boot_protocol, low_memory
from pykexec.placement.crash_by_normal import headers_room
from pykexec.placement.granted import Granted
from pykexec.placement.panic_modes import panic_window
from pykexec.placement.request import LoadRequest, Mode
from pykexec.placement.stage import StageFrames
from pykexec.placement.window import requested_window

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
    low = low_memory(machine)
    window = panic_window(image, machine, request, mode)
    count = window.size // HUGE_PAGE_SIZE
    if mode is Mode.IN_PLACE:
        wanted = Wanted(
            run=count,
            singles=SINGLES,
            windows=places_in_place(request, machine),
            avoid=reserved | low,
        )
        taken = stage.take(pages, journal, wanted, limit)
        if taken.run is None:
            raise NoRoomForStage("no adjacent huge pages", hint="--mode stub-swap")
        return Granted(mode, stage=frames_of(taken, taken.run))
    off = reserved | low | RangeSet((window,))
    wanted = Wanted(singles=count + SINGLES, avoid=off)
    return Granted(mode, stage=frames_of(stage.take(pages, journal, wanted, limit), window))


def places_in_place(request: LoadRequest, machine: Machine) -> tuple[PhysRange, ...]:
    """In the preferred part first, which every device reaches. Not in memory that the capture
    kernel's drivers will look at anew."""
    limits = boot_protocol(machine).limits
    inside = (requested_window(request) or limits.window).intersect(limits.window)
    if inside is None:
        return ()
    first = inside.intersect(limits.preferred)
    places = (first, inside) if first else (inside,)
    drivers = machine.known_map.driver_ram
    return tuple(span for place in places for span in RangeSet((place,)) - drivers)


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
