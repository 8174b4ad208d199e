"""A capture kernel in a window whose old contents are moved away by exchange at the switch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.abi.hugetlb import HUGE_PAGE_SIZE
from pykexec.abi.kexec import KexecFlag
from pykexec.crash.armed_note import ROOM
from pykexec.crash.elfcorehdr import MAX_PROGRAM_HEADERS, size_of
from pykexec.machine import Machine, Unknown
from pykexec.memory.hole import locate_hole
from pykexec.memory.ranges import PhysRange, RangeSet, align_up
from pykexec.placement.boot_protocol import boot_protocol, low_memory, page_size, whole_page_ram
from pykexec.placement.capture_kernel import (
    ASSUMED,
    capture_information,
    capture_warnings,
    crash_need,
)
from pykexec.placement.console import stub_console
from pykexec.placement.fill import fill
from pykexec.placement.plan import Placed, SwitchPlan
from pykexec.placement.request import LoadRequest, Mode
from pykexec.placement.role import Role
from pykexec.placement.segment import Source
from pykexec.placement.space import Space
from pykexec.placement.stub_job import MAX_REGIONS, StubJob, encoder, entry_of, with_purgatory
from pykexec.placement.window import capture_window, requested_window
from pykexec.purgatory import SEAL_SIZE

if TYPE_CHECKING:
    from pykexec.images.kernel_image import KernelImage
    from pykexec.placement.granted import Granted
    from pykexec.placement.limits import Limits

WHY_HEADERS = "room for the worst case; filled in when the backup pages are known"


def plan_crash_by_normal(
    image: KernelImage, machine: Machine, request: LoadRequest, granted: Granted
) -> SwitchPlan:
    """For the modes in which the kernel moves the pages: *flag*, with the headers in a segment, and
    *kernel-swap*, with the headers in separate memory (`headers_at`)."""
    protocol, memory_map = boot_protocol(machine), machine.known_map
    limits, page = protocol.limits, protocol.arch.page_size
    guess = crash_need(image, machine, request)
    wanted = align_up(request.crash_size or guess.size, page)
    window = capture_window(protocol, image, machine, request, wanted, granted.headers_at)
    ram = memory_map.whole_page_ram(page).within(limits.destinations).within(window)
    low = low_memory(machine)
    space = Space(ram, page)
    inside = None
    mode = granted.mode or request.mode or Mode.FLAG
    if mode is Mode.FLAG:
        size = _worst_case_headers(machine, ram.size, len(ram))
        inside = space.take(Role.ELFCOREHDR, size, lowest=limits.headers_min)
    headers = inside or granted.headers_at or _assumed_headers(machine, ram | low, limits)
    information = capture_information(image, machine, request, granted.rng_seed, ram | low, headers)
    purgatory = space.take(
        Role.PURGATORY, protocol.stub_size(machine, MAX_REGIONS), lowest=limits.purgatory_min
    )
    boot = protocol.place(space, image, request, information)
    things = [*protocol.placed(image, request, boot, information)]
    if inside:
        things.append(Placed(Role.ELFCOREHDR, inside, WHY_HEADERS, None, Source.BUILT))
    seal = headers.end - SEAL_SIZE
    console = stub_console(machine, limits, request.serial_port)
    job = StubJob(
        boot.information.start,
        boot.entry,
        seal=seal,
        checks=request.checks,
        console=console,
    )
    loaded = with_purgatory(things, purgatory, job, encoder(protocol, machine))
    return SwitchPlan(
        image=image,
        request=request,
        memory_map=memory_map,
        page_size=page,
        placed=fill(loaded, ram, low, limits.why_low),
        entry=entry_of(request, purgatory),
        boot=boot,
        flags=KexecFlag.KEXEC_CRASH_BY_NORMAL if inside else granted.flags,
        cmdline=information.cmdline,
        next_map=information.memory_map,
        mode=mode,
        headers=headers,
        headers_at=granted.headers_at,
        window=window,
        estimate=guess,
        console=console,
        warnings=(
            *capture_warnings(machine, request, ram.size, guess, information.cmdline),
            *(() if inside or granted.headers_at else (ASSUMED,)),
        ),
    )


def _assumed_headers(machine: Machine, taken: RangeSet, limits: Limits) -> PhysRange:
    """For a dry run: a place outside `taken`, where huge pages could be."""
    size = align_up(size_of(0, MAX_PROGRAM_HEADERS) + SEAL_SIZE, HUGE_PAGE_SIZE)
    free = whole_page_ram(machine) - taken
    return locate_hole(free, size, align=HUGE_PAGE_SIZE, window=limits.window)


def headers_room(
    image: KernelImage, machine: Machine, request: LoadRequest
) -> tuple[int, RangeSet]:
    """For headers in separate memory: bytes in the worst case, and the memory to avoid: the
    requested window, and the low pages."""
    low, window = low_memory(machine), requested_window(request, page_size(machine))
    guess = crash_need(image, machine, request)
    size = request.crash_size or guess.size
    if window and request.mem_min is not None and request.mem_max is not None:
        size = min(size, window.size) if request.crash_size else window.size
    avoid = low | RangeSet((window,)) if window else low
    return _worst_case_headers(machine, align_up(size, page_size(machine))), avoid


def _worst_case_headers(machine: Machine, size: int, pieces: int = 1) -> int:
    """Bytes of the headers' memory for a window of `size` bytes in this many pieces of RAM: each
    page of it in a separate place, split by every RAM range; two VMCOREINFO pages and our own note
    after them; the kernel's image twice; and the seal at the end."""
    low, page = low_memory(machine), page_size(machine)
    notes = 2 + (0 if isinstance(machine.cpus, Unknown) else len(machine.cpus))
    pages = (size + low.size) // page
    cuts = len(machine.known_map.old_memory(page)) + pieces + len(low) + 1
    twice = 0  # the kernel's image, a second time by its virtual addresses
    if not isinstance(machine.kernel_mapping, Unknown):
        twice = min(pages, machine.kernel_mapping.range.size // page) + cuts
    program_headers = min(MAX_PROGRAM_HEADERS, pages + cuts + notes + twice)
    copied = 0 if isinstance(machine.vmcoreinfo, Unknown) else machine.vmcoreinfo.size
    return align_up(size_of(0, program_headers, copied + ROOM) + SEAL_SIZE, page)
