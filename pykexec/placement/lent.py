"""A window in movable memory for a plan: its size, and which of its 2 MiB slots have loaded bytes.
In mode *lent* only these slots have huge pages; the old contents of the rest are lost."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pykexec.abi.hugetlb import HUGE_PAGE_SIZE
from pykexec.errors import DoesNotFit
from pykexec.memory.ranges import PhysRange, RangeSet, align_down, align_up
from pykexec.placement.boot_protocol import boot_protocol, low_memory, page_size
from pykexec.placement.capture_kernel import capture_information, crash_need
from pykexec.placement.granted import RNG_SEED_SIZE
from pykexec.placement.lending import NoMovableMemory, places, why_not_lend
from pykexec.placement.role import Role
from pykexec.placement.space import Space
from pykexec.placement.stage import StageFrames, slots_of
from pykexec.placement.window import WindowRefused, requested_window
from pykexec.remedies import WindowElsewhere

if TYPE_CHECKING:
    from pykexec.images.kernel_image import KernelImage
    from pykexec.machine import Machine
    from pykexec.placement.plan import BootPlaces, Placed
    from pykexec.placement.request import LoadRequest


class OtherSlots(DoesNotFit):
    """The loaded bytes are in other slots of the window than the huge pages."""

    code = "other-slots"
    usual_hint = "load again"


def movable_wish(
    image: KernelImage, machine: Machine, request: LoadRequest
) -> tuple[int, PhysRange]:
    """The bytes of a window in movable memory, in whole huge pages, and where it may be. Without
    --crash-size it is everything between two bounds, as in other modes. Raises WindowRefused."""
    guess = crash_need(image, machine, request)
    size = align_up(request.crash_size or guess.size, HUGE_PAGE_SIZE)
    asked = requested_window(request, page_size(machine))
    inside = (asked or boot_protocol(machine).limits.window).inward(HUGE_PAGE_SIZE)
    if inside is None:
        raise WindowRefused(
            f"the window {asked} contains no whole huge page",
            hint=WindowElsewhere("further apart"),
        )
    exact = request.mem_min is not None and request.mem_max is not None
    if exact and not (request.crash_size and request.crash_size < inside.size):
        size = inside.size
    return size, inside


def assumed_movable(image: KernelImage, machine: Machine, request: LoadRequest) -> PhysRange:
    """The first window in movable memory that a load would try. Raises NoMovableMemory."""
    if why := why_not_lend(machine):
        raise NoMovableMemory(why)
    size, inside = movable_wish(image, machine, request)
    found = places(machine, size, inside)
    if not found.places:
        raise NoMovableMemory(found.why_none(size))
    return found.places[0].window


def with_slots(
    image: KernelImage, frames: StageFrames, things: tuple[Placed, ...], headers: PhysRange
) -> StageFrames:
    """In a dry run, the first of the assumed pages for the slots with loaded bytes. Raises
    OtherSlots if the pages that were taken are not for these slots."""
    inside = () if frames.headers else (headers,)
    wanted = _held_slots(image, frames.window, things, inside)
    if frames.slots is None:
        return replace(frames, slots=tuple(sorted(wanted)), image=frames.image[: len(wanted)])
    if missing := wanted - frozenset(frames.slots):
        raise OtherSlots(f"{len(missing)} slots of the window have no huge page")
    return frames


def _held_slots(
    image: KernelImage,
    window: PhysRange,
    things: tuple[Placed, ...],
    more: tuple[PhysRange, ...] = (),
) -> frozenset[int]:
    """The slots with loaded bytes, with the zeros after an ELF image, and with `more`. A bzImage
    needs no zeros: its decompressor clears its own memory (arch/x86/boot/compressed/head_64.S)."""
    needs_zeros = Role.KERNEL if image.linux.lowest else None
    loaded = (
        item.range
        if item.role is needs_zeros
        else PhysRange.sized(item.range.start, item.contents.size)
        for item in things
        if item.contents and item.contents.size
    )
    return slots_of(window, (*loaded, *more))


def headers_in_window(space: Space) -> PhysRange:
    """The place of ELF core headers that are in the window. Raises NoHole."""
    return space.take(Role.ELFCOREHDR, HUGE_PAGE_SIZE)


def snug(boot: BootPlaces) -> BootPlaces:
    """The places with the boot information in the slot in which the initrd begins, if there is
    room: in a slot of its own it would cost a huge page."""
    initrd, size = boot.initrd, boot.information.size
    if initrd is None or initrd.start % HUGE_PAGE_SIZE < size:
        return boot
    place = PhysRange(initrd.start - size, initrd.start)
    return boot if place.overlaps(boot.kernel) else replace(boot, information=place)


def loaded_slots(
    image: KernelImage, machine: Machine, request: LoadRequest, window: PhysRange
) -> tuple[int, ...]:
    """The slots of a window that need a huge page, wherever the headers will be: their address is
    in the command line, and its length can move other objects by a page."""
    protocol, ram = boot_protocol(machine), RangeSet((window,))
    inside = protocol.limits.headers_inside
    highest = align_down(protocol.limits.destinations.end, HUGE_PAGE_SIZE) - HUGE_PAGE_SIZE
    found: frozenset[int] = frozenset()
    for at in (highest,) if inside else (HUGE_PAGE_SIZE, highest):
        space, seed = Space(ram, page_size(machine)), bytes(RNG_SEED_SIZE)
        headers = headers_in_window(space) if inside else PhysRange.sized(at, HUGE_PAGE_SIZE)
        information = capture_information(
            image, machine, request, seed, ram | low_memory(machine), headers
        )
        boot = snug(protocol.place(space, image, request, information))
        things = protocol.placed(image, request, boot, information)
        found |= _held_slots(image, window, things, (headers,) if inside else ())
    return tuple(sorted(found))
