"""Which huge pages a mode needs, and their addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.abi.hugetlb import HUGE_PAGE_SIZE
from pykexec.abi.kexec import KexecFlag
from pykexec.backends.kernel import stage
from pykexec.backends.kernel.relocation import relocation
from pykexec.backends.kernel.runs import Wanted, search_limit
from pykexec.backends.kernel.stage import HugePageSystem, NoRoomForStage
from pykexec.machine import Machine, Unknown
from pykexec.memory.ranges import PhysRange, RangeSet, align_up
from pykexec.placement.boot_protocol import boot_protocol, low_memory, page_size
from pykexec.placement.crash_by_normal import headers_room
from pykexec.placement.granted import Granted
from pykexec.placement.lending import NoMovableMemory
from pykexec.placement.lent import loaded_slots, movable_wish
from pykexec.placement.panic_modes import panic_window
from pykexec.placement.request import LoadRequest, Mode
from pykexec.placement.stage import frames_of, pages_apart
from pykexec.placement.window import requested_window
from pykexec.remedies import Use, Wish

if TYPE_CHECKING:
    from pykexec.backends.kernel.journal import Journal
    from pykexec.backends.kernel.lent_blocks import LentBlocks
    from pykexec.images.kernel_image import KernelImage


def granted_pages(
    image: KernelImage,
    machine: Machine,
    request: LoadRequest,
    mode: Mode,
    pages: HugePageSystem,
    journal: Journal,
    blocks: LentBlocks,
    others: RangeSet,
) -> Granted:
    """Allocate the huge pages that `mode` needs. `others` is what another stage relies on: its
    pages and its window, whose memory blocks stay unchanged. Raises NoRoomForStage,
    NoMovableMemory, and then holds no page."""
    limit = search_limit(0 if isinstance(machine.memavailable, Unknown) else machine.memavailable)
    if mode is Mode.KERNEL_SWAP:
        size, avoid = headers_room(image, machine, request)
        count = align_up(size, HUGE_PAGE_SIZE) // HUGE_PAGE_SIZE
        taken = stage.take(pages, journal, Wanted(run=count, avoid=avoid), limit)
        flags = relocation(machine).swap_flags or KexecFlag(0)
        return Granted(mode, headers_at=taken.run, flags=flags)
    reserved = machine.crash_kernel or RangeSet()
    low, limits = low_memory(machine), boot_protocol(machine).limits
    apart = pages_apart(limits, mode)
    if mode is not Mode.IN_PLACE and (
        movable := _window_in_movable_memory(image, machine, request, mode, blocks, others)
    ):
        slots = loaded_slots(image, machine, request, movable) if mode is Mode.LENT else None
        count = apart + (movable.size // HUGE_PAGE_SIZE if slots is None else len(slots))
        off = reserved | low | RangeSet((movable,))
        wanted = Wanted(singles=count, avoid=off, shun=blocks.movable)
        taken = stage.take(pages, journal, wanted, limit)
        found = frames_of(limits, mode, movable, taken.singles, slots=slots, movable=True)
        return Granted(mode, stage=found)
    window = panic_window(image, machine, request, mode)
    count = window.size // HUGE_PAGE_SIZE
    if mode is Mode.IN_PLACE:
        wanted = Wanted(
            run=count,
            singles=apart,
            windows=places_in_place(request, machine),
            avoid=reserved | low,
            shun=blocks.movable,
        )
        taken = stage.take(pages, journal, wanted, limit)
        if taken.run is None:
            raise NoRoomForStage("no adjacent huge pages", hint=Use(Wish.MODE, "stub-swap"))
        return Granted(mode, stage=frames_of(limits, mode, taken.run, taken.singles))
    off = reserved | low | RangeSet((window,))
    wanted = Wanted(singles=count + apart, avoid=off, shun=blocks.movable)
    taken = stage.take(pages, journal, wanted, limit)
    return Granted(mode, stage=frames_of(limits, mode, window, taken.singles))


def _window_in_movable_memory(
    image: KernelImage,
    machine: Machine,
    request: LoadRequest,
    mode: Mode,
    blocks: LentBlocks,
    others: RangeSet,
) -> PhysRange | None:
    """A window in memory that is made movable if necessary; None if *stub-swap* has to do without.
    Raises NoMovableMemory for mode *lent*."""
    try:
        window = blocks.window(machine, *movable_wish(image, machine, request), others)
    except NoMovableMemory:
        blocks.give_back(keep=others)
        if mode is Mode.LENT:
            raise
        return None
    blocks.give_back(keep=others | RangeSet((window,)))  # before pages of a stage can be in them
    return window


def places_in_place(request: LoadRequest, machine: Machine) -> tuple[PhysRange, ...]:
    """First in the preferred part, which every device can reach. Not in memory that the capture
    kernel's drivers will detect again."""
    limits = boot_protocol(machine).limits
    asked = requested_window(request, page_size(machine))
    inside = (asked or limits.window).intersect(limits.window)
    if inside is None:
        return ()
    first = inside.intersect(limits.preferred)
    places = (first, inside) if first else (inside,)
    drivers = machine.known_map.driver_ram
    return tuple(span for place in places for span in RangeSet((place,)) - drivers)
