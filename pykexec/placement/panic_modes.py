"""Crash by normal on a real panic: the image is in huge pages, and a tiny reservation has only the
stub that starts it.

*in-place*: the window is physically contiguous memory held by pykexec, the image is already at its
final address, and only the pages below 640 KiB are exchanged. *stub-swap*: the image is in
scattered huge pages, which the stub exchanges with the window. *lent*: the same, but the window is
in movable memory, and only its slots with loaded bytes have huge pages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from pykexec.abi.hugetlb import HUGE_PAGE_SIZE
from pykexec.abi.kexec import KexecFlag
from pykexec.errors import DoesNotFit, NotSupported
from pykexec.images.contents import Built, Contents, copied
from pykexec.machine import Machine, RegionModule, Unknown
from pykexec.memory.hole import locate_hole
from pykexec.memory.ranges import GIB, PhysRange, RangeSet, align_up
from pykexec.placement.boot_protocol import (
    boot_protocol,
    known_protocol,
    low_memory,
    whole_page_ram,
)
from pykexec.placement.capture_kernel import (
    ASSUMED,
    capture_information,
    capture_warnings,
    crash_need,
)
from pykexec.placement.console import stub_console
from pykexec.placement.fill import fill
from pykexec.placement.lending import NoMovableMemory, lending_warnings
from pykexec.placement.lent import assumed_movable, headers_in_window, snug, with_slots
from pykexec.placement.plan import PanicPlan, Placed
from pykexec.placement.request import LoadRequest, Mode
from pykexec.placement.reservation import boot_with, reserved_region
from pykexec.placement.role import Role
from pykexec.placement.segment import SegmentTable, Source
from pykexec.placement.settle import settle
from pykexec.placement.space import Space
from pykexec.placement.stage import StageFrames, frames_of, pages_apart, staged_pieces
from pykexec.placement.stub_job import StubJob
from pykexec.placement.window import WindowRefused, capture_window
from pykexec.purgatory import Exchange, Region
from pykexec.remedies import Another, Use, WindowElsewhere, Wish, any_of

if TYPE_CHECKING:
    from pykexec.images.kernel_image import KernelImage
    from pykexec.placement.bind import BoundPlan
    from pykexec.placement.granted import Granted

WHY_STUB = (
    "the entry: verifies the contents of huge pages, exchanges pages, and starts the capture kernel"
)
WHY_HEADERS = (
    "in a huge page of pykexec; notes, and one program header for each range of the first "
    "kernel's memory"
)
SLEEPERS = "the stacks on which the other CPUs sleep after a panic"
SLEEPERS_TEXT = "the code in which the other CPUs sleep after a panic"
TYPICAL_PAGES = 128
"""Pages of 2 MiB in a window of 256 MiB."""
WINDOW_MAX = 128 * GIB
"""Bytes; each huge page of a stage is a number in the plan."""
RESERVATION_STEP = 64 << 10
"""Advice for a reservation is a multiple of this, in bytes: one is enough for small machines."""
PIECES_PER_THING = 2
"""An object of n bytes is in at most n / 2 MiB + 2 pieces of the stage."""


class ReservationTooSmall(DoesNotFit):
    """crashkernel= is too small for the stub and the kernel's own pages."""

    code = "reservation-too-small"


def panic_window(
    image: KernelImage, machine: Machine, request: LoadRequest, mode: Mode
) -> PhysRange:
    """The place of a *stub-swap* window, in whole huge pages; an *in-place* window has the same
    size. Raises WindowRefused, DoesNotFit."""
    guess = crash_need(image, machine, request)
    size = align_up(request.crash_size or guess.size, HUGE_PAGE_SIZE)
    window = capture_window(boot_protocol(machine), image, machine, request, size)
    whole = window.inward(HUGE_PAGE_SIZE)
    if whole is None:
        raise DoesNotFit(
            f"the window {window} contains no whole huge page",
            hint=WindowElsewhere("further apart"),
        )
    if whole.size > WINDOW_MAX:
        raise WindowRefused(
            f"the window {whole} has {whole.size >> 30} GiB, but in huge pages it can "
            f"have at most {WINDOW_MAX >> 30} GiB",
            hint=Another("a smaller", Wish.CRASH_SIZE),
            window=whole,
        )
    if (machine.crash_kernel or RangeSet()).overlaps(whole):
        raise WindowRefused(
            f"the window {whole} overlaps the crash region, from which the stub exchanges it",
            hint=WindowElsewhere("outside of the crash region"),
            window=whole,
        )
    if mode is Mode.STUB_SWAP and (used := machine.hardware_memory.within(whole)):
        raise WindowRefused(
            f"the window {whole} contains memory that an IOMMU uses, at {used.ranges[0]}",
            hint=any_of(WindowElsewhere("outside of it"), Use(Wish.MODE, "in-place")),
            window=whole,
        )
    return whole


def plan_panic(
    image: KernelImage, machine: Machine, request: LoadRequest, granted: Granted
) -> PanicPlan:
    """Plan a crash by normal that a panic starts. Raises NothingReserved, ReservationTooSmall,
    DoesNotFit, NotSupported."""
    protocol, memory_map = boot_protocol(machine), machine.known_map
    mode = granted.mode or request.mode or Mode.IN_PLACE
    frames = granted.stage or _assumed_stage(image, machine, request, mode)
    low = low_memory(machine)
    ram = RangeSet((frames.window,))
    space = Space(ram, protocol.arch.page_size)
    headers = frames.headers or headers_in_window(space)
    information = capture_information(image, machine, request, granted.rng_seed, ram | low, headers)
    boot = protocol.place(space, image, request, information)
    boot = snug(boot) if mode is Mode.LENT else boot
    things = protocol.placed(image, request, boot, information)
    frames = with_slots(image, frames, things, headers) if mode is Mode.LENT else frames
    scattered = len(low) + len(frames.image)
    stub = _stub_place(machine, _region_count(things, frames.headers is not None), scattered)
    guess = crash_need(image, machine, request)
    return PanicPlan(
        image=image,
        request=request,
        memory_map=memory_map,
        page_size=protocol.arch.page_size,
        placed=(
            *fill(things, ram.without(headers), low, protocol.limits.why_low),
            Placed(Role.ELFCOREHDR, headers, WHY_HEADERS, None, Source.BUILT),
            Placed(Role.PURGATORY, stub, WHY_STUB, None, Source.BUILT),
        ),
        entry=stub.start,
        boot=boot,
        flags=KexecFlag.KEXEC_ON_CRASH,
        cmdline=information.cmdline,
        next_map=information.memory_map,
        mode=mode,
        headers=headers,
        window=frames.window,
        estimate=guess,
        console=stub_console(machine, protocol.limits, request.serial_port),
        stage=frames,
        settle=settle(machine, mode, request.settle),
        warnings=(
            *capture_warnings(machine, request, frames.window.size, guess, information.cmdline),
            *_sleeper_warnings(mode, frames, machine),
            *(lending_warnings(machine, frames.window) if mode is Mode.LENT else ()),
            *(() if granted.stage else (ASSUMED,)),
        ),
    )


def _sleeper_warnings(mode: Mode, frames: StageFrames, machine: Machine) -> tuple[str, ...]:
    """In *stub-swap* the window should contain neither the code nor the stacks of the other CPUs:
    one that wakes (QEMU sometimes wakes them) continues with whatever is there then. Movable memory
    contains neither."""
    window = frames.window
    asleep = boot_protocol(machine).limits.cpus_sleep
    if mode is not Mode.STUB_SWAP or frames.movable or not asleep:
        return ()
    warnings = []
    if (machine.kernel_image or RangeSet()).overlaps(window):
        warnings.append(f"{SLEEPERS_TEXT} lies in the window")
    if isinstance(machine.per_cpu, Unknown):
        warnings.append(f"{SLEEPERS} may lie in the window: {machine.per_cpu}")
    elif machine.per_cpu.overlaps(window):
        warnings.append(f"{SLEEPERS} lie in the window")
    return tuple(warnings)


def _region_count(things: tuple[Placed, ...], headers_apart: bool) -> int:
    """The largest number of digests: one for each piece of an object, and of the headers."""
    return (1 if headers_apart else PIECES_PER_THING) + sum(
        item.contents.size // HUGE_PAGE_SIZE + PIECES_PER_THING for item in things if item.contents
    )


def typical_need(machine: Machine) -> int:
    """Bytes to reserve for a window in scattered pages, before a plan is made."""
    if isinstance(machine.memory_map, Unknown):
        return RESERVATION_STEP
    protocol = known_protocol(machine)
    if isinstance(protocol, Unknown):
        return RESERVATION_STEP
    size = protocol.stub_size(machine, TYPICAL_PAGES, TYPICAL_PAGES)
    return protocol.reservation_need(machine, size)


def advised_boot(machine: Machine) -> str:
    """How to get a large enough reservation for the stub."""
    return boot_with(machine, align_up(typical_need(machine), RESERVATION_STEP) >> 10)


def advised_region(machine: Machine) -> str:
    """Both ways to get a crash region: at run time with the kernel module, and at boot."""
    if isinstance(machine.modules.region, RegionModule):
        return f"run pykexec region make, or {advised_boot(machine)}"
    return (
        "install the kernel module that makes one (pykexec region build, or DKMS), "
        f"or {advised_boot(machine)}"
    )


def _larger_region(machine: Machine, need: int) -> str:
    """How to get a region of `need` bytes instead of the present one."""
    kib = align_up(need, RESERVATION_STEP) >> 10
    if machine.modules.region_inserted is True:
        return f"run pykexec region release, then pykexec region make {kib}K"
    return boot_with(machine, kib)


def _stub_place(machine: Machine, regions: int, exchanges: int) -> PhysRange:
    """Place the stub at the end of the reserved region, because the kernel allocates its control
    pages from the start. It has space for the largest number of records: a reservation is enough
    for every load or for none, whatever the addresses of the huge pages. Raises
    ReservationTooSmall."""
    protocol, region = boot_protocol(machine), reserved_region(machine)
    size = protocol.stub_size(machine, regions, exchanges)
    need = protocol.reservation_need(machine, size)
    if need > region.size:
        raise ReservationTooSmall(
            f"the crash region has {region.size >> 10} KiB, but the stub and the kernel's "
            f"own pages need {need >> 10} KiB on this machine",
            hint=_larger_region(machine, need),
            need=need,
        )
    return PhysRange(region.end - size, region.end)


def _assumed_stage(
    image: KernelImage, machine: Machine, request: LoadRequest, mode: Mode
) -> StageFrames:
    """For a dry run: assumed huge pages; the real ones are known only at the load."""
    window, movable = assumed_window(image, machine, request, mode)
    reserved = machine.crash_kernel or RangeSet()
    free = whole_page_ram(machine) - reserved - RangeSet((window,))
    limits = boot_protocol(machine).limits
    pages = pages_apart(limits, mode)
    pages += 0 if mode is Mode.IN_PLACE else window.size // HUGE_PAGE_SIZE
    found: Sequence[int] = ()
    if pages:
        size = pages * HUGE_PAGE_SIZE
        where = locate_hole(free, size, align=HUGE_PAGE_SIZE, window=limits.window)
        found = range(where.start, where.end, HUGE_PAGE_SIZE)
    return frames_of(limits, mode, window, found, movable=movable)


def assumed_window(
    image: KernelImage, machine: Machine, request: LoadRequest, mode: Mode
) -> tuple[PhysRange, bool]:
    """The window, and whether it is in movable memory: it is in mode *lent*, and in *stub-swap* if
    possible. Raises as panic_window, and NoMovableMemory."""
    if mode is not Mode.IN_PLACE:
        try:
            return assumed_movable(image, machine, request), True
        except NoMovableMemory:
            if mode is Mode.LENT:
                raise
    return panic_window(image, machine, request, mode), False


def armed_table(bound: BoundPlan, machine: Machine, regions: tuple[Region, ...]) -> SegmentTable:
    """The single segment of a panic mode: the stub, which has the digests of everything in the
    stage, from `staged_regions`."""
    plan = bound.plan
    stub = plan.first(Role.PURGATORY)
    if stub is None or not isinstance(plan, PanicPlan):
        raise NotSupported("only the image of a panic mode has a stage")
    job = StubJob(
        argument=plan.boot.information.start,
        entry=plan.boot.entry,
        regions=regions if plan.request.checks else (),
        exchanges=tuple(Exchange(run.dest, run.source, run.size) for run in bound.backup_map),
        checks=plan.request.checks,
        console=plan.console,
        reset_seconds=reset_seconds(machine.sysctls.panic or 0),
        in_use=plan.mode is not Mode.IN_PLACE,
        settle_seconds=plan.settle.seconds,
        clock_khz=plan.settle.clock_khz,
        keep=tuple(machine.crash_kernel or ()),
        window=plan.window,
    )
    contents = Built(boot_protocol(machine).encode_stub(job, machine, stub.range.start))
    placed = Placed(Role.PURGATORY, stub.range, stub.why, contents, Source.BUILT)
    return SegmentTable((placed.segment,), stub.range.start, plan.flags)


def reset_seconds(panic: int) -> int:
    """Seconds until the stub resets the machine, from kernel.panic: 0 halts; with a negative value
    the kernel would reset immediately (kernel/panic.c), and the stub counts whole seconds."""
    return panic if panic >= 0 else 1


Put = Callable[[int, "bytes | memoryview"], None]
"""Writes bytes to a physical address."""


def staged_regions(bound: BoundPlan, put: Put) -> Iterator[Region]:
    """The digest of everything that is loaded, at its place in the stage; `put` gets the same
    bytes, in the same pass. Raises UnreadableFile, FileChanged, and what `put` raises."""
    for item in bound.plan.placed:
        if item.contents:
            yield from _piece_regions(item.range.start, item.contents, bound, put)
    yield from _piece_regions(bound.headers_at.start, Built(bound.headers), bound, put)


def _piece_regions(at: int, contents: Contents, bound: BoundPlan, put: Put) -> Iterator[Region]:
    """One region for each piece of the stage; the bytes are read once."""
    pieces = staged_pieces(PhysRange.sized(at, contents.size), bound.backup_map)
    chunks = copied(contents)
    left = memoryview(b"")
    for piece in pieces:
        digest, done = hashlib.sha256(), 0
        while done < piece.size:
            left = left or memoryview(next(chunks))
            part = left[: piece.size - done]
            put(piece.source + done, part)
            digest.update(part)
            done, left = done + len(part), left[len(part) :]
        yield Region(piece.source, piece.size, digest.digest())
    for _ in chunks:
        raise AssertionError("the pieces are as long as the contents")
