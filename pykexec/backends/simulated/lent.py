"""Mode *lent* on the simulated kernel: memory blocks become movable, and huge pages are taken."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from pykexec.abi.hugetlb import HUGE_PAGE_SIZE
from pykexec.abi.x86.page import PAGE_SIZE
from pykexec.backends.simulated.kernel.blocks import (
    BlockBusy,
    compact,
    make_movable,
    memory_blocks,
    use_movable,
)
from pykexec.backends.simulated.kernel.frames import FREE, FREE_MOVABLE, IMAGE
from pykexec.backends.simulated.store.machine_state import Staged
from pykexec.errors import DoesNotFit
from pykexec.memory.ranges import PhysRange, RangeSet
from pykexec.placement.boot_protocol import boot_protocol
from pykexec.placement.lending import NoMovableMemory, Place, places
from pykexec.placement.lent import loaded_slots, movable_wish
from pykexec.placement.request import Mode
from pykexec.placement.stage import StageFrames, frames_of

if TYPE_CHECKING:
    from pykexec.backends.simulated.kernel.running import SimulatedKernel
    from pykexec.images.kernel_image import KernelImage
    from pykexec.machine import Machine
    from pykexec.placement.request import LoadRequest

USER_SHARE = 2
"""Applications use one page in so many of the lent memory."""


class TooFewHugePages(DoesNotFit):
    """Free memory has too few aligned runs of 2 MiB."""

    code = "too-few-huge-pages"
    usual_hint = "use a larger machine, or one of which less is in use"


def lend(
    kernel: SimulatedKernel, image: KernelImage, machine: Machine, request: LoadRequest
) -> StageFrames:
    """The stage for a load, which `SimulatedKernel.end_stage` undoes. Raises NoMovableMemory,
    TooFewHugePages."""
    kernel.boot_if_down()
    size, inside = movable_wish(image, machine, request)
    place, converted = _movable_place(kernel, machine, size, inside)
    slots = loaded_slots(image, machine, request, place.window)
    taken = huge_pages(kernel, len(slots) + 1, RangeSet((place.window,)))
    limits = boot_protocol(machine).limits
    found = frames_of(limits, Mode.LENT, place.window, taken, slots=slots, movable=True)
    kernel.stage = Staged(found.ours, found.lent, converted)
    kernel.frames.give(found.ours, IMAGE)
    for span in found.ours:
        kernel.ram.zero(span.start, span.size)
    use_movable(kernel, _applications(RangeSet((place.window,))))
    return found


def _movable_place(
    kernel: SimulatedKernel, machine: Machine, size: int, inside: PhysRange
) -> tuple[Place, RangeSet]:
    """A place all of whose blocks are movable, and the blocks that were made so. Raises
    NoMovableMemory; then none was."""
    refused: dict[int, str] = {}
    while True:
        now = replace(machine, memory_blocks=memory_blocks(kernel.layout))
        found = places(now, size, inside, refused=refused)
        if not found.places:
            raise NoMovableMemory(found.why_none(size), details=tuple(refused.values()))
        place = found.places[0]
        converted = RangeSet()
        for block in place.to_convert:
            try:
                make_movable(kernel, block)
            except BlockBusy as error:
                refused[block.number] = error.message
                kernel.online_kernel(converted)
                break
            converted |= RangeSet((block.range,))
        else:
            return place, converted


def huge_pages(kernel: SimulatedKernel, count: int, avoid: RangeSet) -> list[int]:
    """Addresses of so many, no part of `avoid`: the highest that are free, then what the kernel
    can make free by moving user pages. Raises TooFewHugePages."""
    free = kernel.frames.of(FREE) | kernel.frames.of(FREE_MOVABLE)
    found = _slots(free - avoid)[-count:]
    ours = RangeSet.of(PhysRange.sized(at, HUGE_PAGE_SIZE) for at in found)
    ordinary = (
        kernel.layout.memory_map.whole_page_ram(PAGE_SIZE) - kernel.layout.movable - avoid - ours
    )
    for at in reversed(_slots(ordinary)):
        if len(found) >= count:
            break
        page = PhysRange.sized(at, HUGE_PAGE_SIZE)
        with suppress(BlockBusy):
            compact(kernel, page, avoid | ours)
            found.append(at)
            ours |= RangeSet((page,))
    if len(found) < count:
        raise TooFewHugePages(f"{len(found)} huge pages are free, {count} are needed")
    return sorted(found)


def _slots(spans: RangeSet) -> list[int]:
    """Addresses of the whole huge pages in them."""
    whole = spans.inward(HUGE_PAGE_SIZE)
    return [at for span in whole for at in range(span.start, span.end, HUGE_PAGE_SIZE)]


def _applications(spans: RangeSet) -> list[PhysRange]:
    """Every other 2 MiB: user pages that a dump of this mode lacks."""
    step = USER_SHARE * HUGE_PAGE_SIZE
    return [
        PhysRange.sized(at, HUGE_PAGE_SIZE)
        for span in spans
        for at in range(span.start, span.end - HUGE_PAGE_SIZE + 1, step)
    ]
