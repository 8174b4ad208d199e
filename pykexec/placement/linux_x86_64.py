"""A Linux x86_64 boot around one bzImage: what it needs, where each thing goes, and why.

Order, alignment and windows are kexec-tools' (and kexec-bzimage64.c's): from the
top down, purgatory first. Everything whose bytes depend on an address is built
after all addresses are known.
"""

from __future__ import annotations

from dataclasses import dataclass

from pykexec.abi.bootparam import SetupType
from pykexec.abi.kexec import PAGE_SIZE, KexecFlag
from pykexec.crash.elfcorehdr import MAX_PROGRAM_HEADERS, size_of
from pykexec.errors import NotSupported, UsageError
from pykexec.images.contents import Built
from pykexec.images.kernel_image import KernelImage
from pykexec.machine import Machine, Unknown
from pykexec.memory.map import MemoryMap, MemoryRange, RangeType
from pykexec.memory.ranges import ALL_MEMORY, PhysRange, RangeSet, align_up
from pykexec.placement import crash_by_normal, estimate, layout
from pykexec.placement.boot_params import BootParams, SetupData, screen_info_of
from pykexec.placement.cmdline import CommandLine, check_length, command_line
from pykexec.placement.plan import (
    BOOT_PARAMS,
    ELFCOREHDR,
    INITRD,
    KERNEL,
    PURGATORY,
    ImageKind,
    LoadRequest,
    Mode,
    Placed,
    PlacementPlan,
)
from pykexec.placement.purgatory import StubJob, stub_memsz
from pykexec.placement.segment import Source
from pykexec.placement.space import Space
from pykexec.placement.window import capture_window, requested_window
from pykexec.purgatory import SEAL_SIZE, Region

CAPTURE_WORDS = (
    "nokaslr",
    "nr_cpus=1",
    "reset_devices",
    "irqpoll",
    "mce=off",
    "numa=off",
    "acpi_no_memhotplug",
)
"""What kdump scripts give a capture kernel, and nokaslr: it stays in its window."""

FIRST_KERNEL_KEYS = ("crashkernel", "hugepages", "hugepagesz", "default_hugepagesz")
"""Never inherited by a capture kernel: they would take the memory it has to live in."""

MAX_REGIONS = 3
"""Loaded segments that the stub checks: kernel, initrd, boot_params."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where each thing goes; whole pages."""

    purgatory: PhysRange
    boot_params: PhysRange
    kernel: PhysRange
    initrd: PhysRange | None
    headers: PhysRange | None
    """A segment of the image; None when the headers lie elsewhere, or there are none."""


def known_memory_map(machine: Machine) -> MemoryMap:
    """Without it nothing can be placed."""
    if isinstance(machine.memory_map, Unknown):
        raise NotSupported(
            f"the memory map of {machine.name} is {machine.memory_map}",
            hint="as root, or with --machine DIR or --root FILE of a captured machine",
        )
    return machine.memory_map


def plan_load(image: KernelImage, machine: Machine, request: LoadRequest) -> PlacementPlan:
    """The whole decision. Raises DoesNotFit, UsageError or NotSupported."""
    if request.kind is ImageKind.CRASH_BY_NORMAL:
        return plan_crash_by_normal(image, machine, request)
    if request.kind is ImageKind.CRASH:
        raise NotSupported("a load into a reserved region is not built yet")
    return plan_normal(image, machine, request)


def plan_normal(image: KernelImage, machine: Machine, request: LoadRequest) -> PlacementPlan:
    """The next kernel gets all memory; the window only says where its image may lie."""
    memory_map = known_memory_map(machine)
    window = requested_window(request)
    free = memory_map.whole_page_ram.without(layout.FIRST_PAGE).within(window or ALL_MEMORY)
    line = next_command_line(request, machine)
    check_length(line, image.boot.cmdline_size)
    params = boot_params_for(image, machine, request, line, memory_map)
    at = place(Space(free), image, request, params.size)
    placed = things(image, request, at, params)
    return PlacementPlan(
        image=image,
        request=request,
        memory_map=memory_map,
        placed=tuple(sorted(placed, key=lambda item: item.range)),
        entry=at.purgatory.start if request.entry is None else request.entry,
        flags=KexecFlag(0),
        cmdline=line,
        capture_map=memory_map,
        window=window,
    )


def plan_crash_by_normal(
    image: KernelImage, machine: Machine, request: LoadRequest
) -> PlacementPlan:
    """A capture kernel in a window whose old contents are exchanged away."""
    memory_map = known_memory_map(machine)
    guess = estimate.crash_size(image.boot, request.initrd)
    wanted = request.crash_size or guess.size
    window = capture_window(machine, memory_map, request, image.boot, align_up(wanted, PAGE_SIZE))
    ram = memory_map.whole_page_ram.within(window)
    low = crash_by_normal.low_memory(memory_map)
    flags, mode = KexecFlag(0), request.mode or Mode.FLAG
    headers_size = 0
    if mode is Mode.FLAG:
        flags = KexecFlag.KEXEC_CRASH_BY_NORMAL
        headers_size = worst_case_headers(machine, memory_map, ram, low)
    space = Space(ram)
    headers = (
        space.take(ELFCOREHDR, headers_size, lowest=layout.BOOT_PARAMS_MIN)
        if headers_size
        else None
    )
    where = headers or request.headers_at
    if where is None:
        raise UsageError(f"mode {mode} has no memory for its ELF core headers")
    line = capture_command_line(request, machine, where.start)
    check_length(line, image.boot.cmdline_size)
    capture_map = capture_e820(memory_map, ram, low, where)
    params = boot_params_for(image, machine, request, line, capture_map)
    at = place(space, image, request, params.size, headers)
    placed = things(image, request, at, params)
    warnings = []
    if ram.size < guess.size:
        warnings.append(
            f"the window has {ram.size >> 20} MiB, the estimate for this kernel and initrd is "
            f"{guess.size >> 20} MiB: it may run out of memory while it captures"
        )
    return PlacementPlan(
        image=image,
        request=request,
        memory_map=memory_map,
        placed=crash_by_normal.fill(placed, ram, low),
        entry=at.purgatory.start if request.entry is None else request.entry,
        flags=flags,
        cmdline=line,
        capture_map=capture_map,
        mode=mode,
        window=window,
        estimate=guess,
        warnings=tuple(warnings),
    )


def place(
    space: Space,
    image: KernelImage,
    request: LoadRequest,
    params_size: int,
    headers: PhysRange | None = None,
) -> Addresses:
    """Top down: purgatory, boot_params, kernel, initrd (kexec-bzImage64.c:do_bzImage64_load)."""
    boot = image.boot
    purgatory = space.take(PURGATORY, stub_memsz(MAX_REGIONS), lowest=layout.PURGATORY_MIN)
    params = space.take(BOOT_PARAMS, params_size, lowest=layout.BOOT_PARAMS_MIN)
    kernel = space.take(
        KERNEL,
        boot.init_size,
        align=boot.kernel_alignment,
        lowest=max(layout.KERNEL_MIN, boot.pref_address),
    )
    initrd = (
        space.take(INITRD, request.initrd.size, lowest=layout.INITRD_MIN)
        if request.initrd
        else None
    )
    return Addresses(purgatory, params, kernel, initrd, headers)


def things(
    image: KernelImage, request: LoadRequest, at: Addresses, params: BootParams
) -> list[Placed]:
    """What was placed, with its bytes; the purgatory last, since it digests the others."""
    initrd_size = request.initrd.size if request.initrd else 0
    encoded = params.encode(at.boot_params.start, at.initrd, initrd_size)
    placed = [
        Placed(
            BOOT_PARAMS,
            at.boot_params,
            "as high as there is room; RSI points here",
            Built(encoded),
            Source.BUILT,
        ),
        Placed(
            KERNEL,
            at.kernel,
            f"as high as there is room, aligned to {image.boot.kernel_alignment >> 20} MiB; "
            f"init_size {image.boot.init_size:#x} is what it unpacks into",
            image.payload,
            Source.FILE,
        ),
    ]
    if at.initrd:
        placed.append(
            Placed(
                INITRD,
                at.initrd,
                "as high as there is room, at or above 16 MiB",
                request.initrd,
                Source.FILE,
            )
        )
    seal = 0
    if at.headers:
        seal = at.headers.end - SEAL_SIZE
    job = StubJob(
        boot_params=at.boot_params.start,
        entry=at.kernel.start + image.boot.entry_offset,
        regions=regions(placed) if request.checks else (),
        seal=seal,
        checks=request.checks,
    )
    placed.append(
        Placed(
            PURGATORY,
            at.purgatory,
            "as high as there is room; the entry: checks the digests, then starts the kernel",
            Built(job.encode(at.purgatory.start)),
            Source.BUILT,
        )
    )
    if at.headers:
        placed.append(
            Placed(
                ELFCOREHDR,
                at.headers,
                "room for the worst case; zero until the backup pages are known",
                None,
                Source.BUILT,
            )
        )
    return placed


def regions(placed: list[Placed]) -> tuple[Region, ...]:
    """What the stub checks: loaded bytes only, never zeros."""
    return tuple(
        Region(item.range.start, item.contents.size, item.contents.sha256)
        for item in placed
        if item.contents
    )


def next_command_line(request: LoadRequest, machine: Machine) -> CommandLine:
    return command_line(request.append, running_line(request, machine), request.cmdline_remove)


def capture_command_line(request: LoadRequest, machine: Machine, headers_at: int) -> CommandLine:
    """The user's words, and what a capture kernel needs; elfcorehdr= is never the user's."""
    if command_line(request.append).has("elfcorehdr") or any(
        "elfcorehdr=" in text for text in request.append
    ):
        raise UsageError(
            "elfcorehdr= is set by pykexec", hint="leave it out of --append: the address is ours"
        )
    return command_line(
        request.append,
        running_line(request, machine),
        (*request.cmdline_remove, *FIRST_KERNEL_KEYS),
        (f"elfcorehdr={headers_at:#x}", *CAPTURE_WORDS),
    )


def running_line(request: LoadRequest, machine: Machine) -> str | None:
    """The running kernel's command line, when it is to be reused."""
    if not request.reuse_cmdline:
        return None
    if isinstance(machine.cmdline, Unknown):
        raise NotSupported(
            f"--reuse-cmdline: the command line of {machine.name} is {machine.cmdline}"
        )
    return machine.cmdline


def boot_params_for(
    image: KernelImage,
    machine: Machine,
    request: LoadRequest,
    line: CommandLine,
    e820: MemoryMap,
) -> BootParams:
    running = machine.boot_params
    return BootParams(
        setup_header=image.boot.setup_header,
        cmdline=line,
        e820=e820,
        setup_data=(SetupData(SetupType.SETUP_RNG_SEED, request.rng_seed),),
        screen_info=bytes(0x40) if isinstance(running, Unknown) else screen_info_of(running),
        acpi_rsdp=machine.acpi_rsdp if isinstance(machine.acpi_rsdp, int) else 0,
    )


def capture_e820(
    memory_map: MemoryMap, ram: RangeSet, low: RangeSet, headers: PhysRange
) -> MemoryMap:
    """RAM: the window and the low pages, less the headers, which must not lie in free RAM
    (contract 7.1). And all that the firmware keeps."""
    return MemoryMap.of(
        (
            *(MemoryRange(span, RangeType.RAM) for span in (ram | low).without(headers)),
            MemoryRange(headers, RangeType.RESERVED),
            *memory_map.firmware,
        )
    )


def worst_case_headers(
    machine: Machine, memory_map: MemoryMap, ram: RangeSet, low: RangeSet
) -> int:
    """Bytes of the headers' segment: each page of the window in a place of its own, cut
    by every RAM range; two VMCOREINFO pages beside them; and the seal at the end."""
    notes = 1 + (0 if isinstance(machine.cpus, Unknown) else len(machine.cpus))
    pages = (ram.size + low.size) // PAGE_SIZE
    pieces = len(memory_map.whole_page_ram) + len(ram) + len(low) + 1
    program_headers = min(MAX_PROGRAM_HEADERS, pages + pieces + notes)
    copied = 0 if isinstance(machine.vmcoreinfo, Unknown) else machine.vmcoreinfo.size
    return align_up(size_of(0, program_headers, copied) + SEAL_SIZE, PAGE_SIZE)
