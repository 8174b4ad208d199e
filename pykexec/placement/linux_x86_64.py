"""A Linux x86_64 boot around one bzImage: what it needs, where each thing goes, and why.

Order, alignment and windows are kexec-tools' (and kexec-bzimage64.c's): from the
top down, purgatory first. Everything whose bytes depend on an address is built
after all addresses are known. The three kinds of load share what is here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pykexec.abi.bootparam import SetupType
from pykexec.errors import UsageError
from pykexec.images.contents import Built, Contents
from pykexec.images.kernel_image import KernelImage, LinuxX86Boot
from pykexec.machine import Machine, known
from pykexec.memory.map import MemoryMap, MemoryRange, RangeType
from pykexec.memory.ranges import PhysRange, RangeSet
from pykexec.placement import layout
from pykexec.placement.boot_params import BootParams, inheritable
from pykexec.placement.cmdline import CommandLine, check_length, command_line
from pykexec.placement.plan import (
    BOOT_PARAMS,
    ELFCOREHDR,
    INITRD,
    KERNEL,
    PURGATORY,
    Boot,
    LoadRequest,
    Placed,
)
from pykexec.placement.purgatory import StubJob, stub_memsz
from pykexec.placement.segment import Source
from pykexec.placement.setup_data import SetupData
from pykexec.placement.space import Space
from pykexec.purgatory import Exchange, Region

FIRST_KERNEL_KEYS = ("crashkernel", "hugepages", "hugepagesz", "default_hugepagesz")
"""Never inherited by a capture kernel: they would take the memory it has to live in."""

MAX_REGIONS = 4
"""Loaded segments that the stub checks: kernel, initrd, boot_params, ELF core headers."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """A boot, and the purgatory in front of it; whole pages."""

    purgatory: PhysRange
    boot: Boot


@dataclass(frozen=True, slots=True)
class StubDuties:
    """What the stub does besides checking what was loaded and starting the kernel."""

    exchanges: tuple[Exchange, ...] = ()
    seal: int = 0
    checks: bool = True


def place(
    space: Space, image: KernelImage, request: LoadRequest, params_size: int, exchanges: int = 0
) -> Addresses:
    """Top down, the purgatory first (kexec-bzImage64.c:do_bzImage64_load)."""
    size = stub_memsz(MAX_REGIONS, exchanges)
    purgatory = space.take(PURGATORY, size, lowest=layout.PURGATORY_MIN)
    return Addresses(purgatory, place_boot(space, image, request, params_size))


def place_boot(space: Space, image: KernelImage, request: LoadRequest, params_size: int) -> Boot:
    """Top down: boot_params, kernel, initrd."""
    boot = image.linux
    params = space.take(BOOT_PARAMS, params_size, lowest=layout.BOOT_PARAMS_MIN)
    kernel = space.take(
        KERNEL,
        boot.init_size,
        align=boot.kernel_alignment,
        lowest=max(layout.KERNEL_MIN, boot.pref_address),
        from_top=not boot.lowest,
    )
    initrd = (
        space.take(INITRD, request.initrd.size, lowest=layout.INITRD_MIN)
        if request.initrd
        else None
    )
    return Boot(params, kernel, initrd)


def placed_boot(
    image: KernelImage, request: LoadRequest, boot: Boot, params: BootParams
) -> tuple[Placed, ...]:
    """The things of a boot, with their bytes."""
    initrd = request.initrd
    encoded = params.encode(boot.boot_params.start, boot.initrd, initrd.size if initrd else 0)
    placed = [
        Placed(
            BOOT_PARAMS,
            boot.boot_params,
            "as high as there is room; RSI points here",
            Built(encoded),
            Source.BUILT,
        ),
        Placed(
            KERNEL,
            boot.kernel,
            why_kernel(image.linux),
            image.payload,
            Source.FILE,
        ),
    ]
    if boot.initrd:
        why = "as high as there is room, at or above 16 MiB"
        placed.append(Placed(INITRD, boot.initrd, why, initrd, Source.FILE))
    return tuple(placed)


def why_kernel(boot: LinuxX86Boot) -> str:
    aligned = f"aligned to {boot.kernel_alignment >> 20} MiB"
    if boot.lowest:
        return (
            f"at or as near above {boot.pref_address:#x} as there is room, {aligned}; "
            f"{boot.init_size:#x} bytes with its bss"
        )
    return (
        f"as high as there is room, {aligned}; "
        f"init_size {boot.init_size:#x} is what it unpacks into"
    )


def things(
    image: KernelImage,
    request: LoadRequest,
    at: Addresses,
    params: BootParams,
    others: Iterable[Placed] = (),
    duties: StubDuties = StubDuties(),
) -> tuple[Placed, ...]:
    """What was placed, with its bytes, in address order. `others` are things of this kind
    of load; the purgatory is made last, since it has the digest of each."""
    placed = [*placed_boot(image, request, at.boot, params), *others]
    job = StubJob(
        boot_params=at.boot.boot_params.start,
        entry=at.boot.kernel.start + image.linux.entry_offset,
        regions=regions(placed) if duties.checks else (),
        exchanges=duties.exchanges,
        seal=duties.seal,
        checks=duties.checks,
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
    return tuple(sorted(placed, key=lambda item: item.range))


def regions(placed: Iterable[Placed]) -> tuple[Region, ...]:
    """What the stub checks: loaded bytes only, never zeros, nor what the kernel will rewrite."""
    return tuple(
        Region(item.range.start, item.contents.size, item.contents.sha256)
        for item in placed
        if item.contents and item.digested
    )


def entry_of(request: LoadRequest, at: Addresses) -> int:
    """The purgatory, unless --entry says otherwise."""
    return at.purgatory.start if request.entry is None else request.entry


def next_command_line(image: KernelImage, machine: Machine, request: LoadRequest) -> CommandLine:
    """For a kernel that follows this one."""
    line = command_line(request.append, running_line(machine, request), request.cmdline_remove)
    check_length(line, image.linux.cmdline_size)
    return line


def capture_command_line(
    image: KernelImage, machine: Machine, request: LoadRequest, headers_at: int
) -> CommandLine:
    """The user's words, and what a capture kernel needs; elfcorehdr= is never the user's."""
    if any("elfcorehdr=" in text for text in request.append):
        raise UsageError(
            "elfcorehdr= is set by pykexec", hint="leave it out of --append: the address is ours"
        )
    line = command_line(
        request.append,
        running_line(machine, request),
        (*request.cmdline_remove, *FIRST_KERNEL_KEYS),
        (f"elfcorehdr={headers_at:#x}", *request.capture_words),
    )
    check_length(line, image.linux.cmdline_size)
    return line


def running_line(machine: Machine, request: LoadRequest) -> str | None:
    """The running kernel's command line, when it is to be reused."""
    if not request.reuse_cmdline:
        return None
    return known(machine.cmdline, f"--reuse-cmdline: the command line of {machine.name}")


def boot_params_for(
    image: KernelImage,
    machine: Machine,
    request: LoadRequest,
    line: CommandLine,
    e820: MemoryMap,
) -> BootParams:
    return BootParams(
        setup_header=image.linux.setup_header,
        cmdline=line,
        e820=e820,
        setup_data=(SetupData(SetupType.SETUP_RNG_SEED, request.rng_seed),),
        running=inheritable(machine.boot_params or b""),
        acpi_rsdp=machine.acpi_rsdp or 0,
    )


def capture_e820(memory_map: MemoryMap, ram: RangeSet, kept: Iterable[PhysRange]) -> MemoryMap:
    """RAM: what the capture kernel may use, less what must not lie in its free RAM (the
    headers, contract 7.1; copies of old memory). And all that the firmware keeps."""
    away = RangeSet.of(kept)
    return MemoryMap.of(
        (
            *(MemoryRange(span, RangeType.RAM) for span in ram - away),
            *(MemoryRange(span, RangeType.RESERVED) for span in away),
            *memory_map.firmware,
        )
    )


def elfcorehdr_placed(span: PhysRange, contents: Contents | None, why: str) -> Placed:
    return Placed(ELFCOREHDR, span, why, contents, Source.BUILT)
