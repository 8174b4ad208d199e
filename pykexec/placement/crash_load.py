"""A load into the reserved region, for ordinary kdump: `load --crash`.

All addresses of the dump are known before the load, so the ELF core headers are a
segment like any other. Memory below 640 KiB, which the capture kernel needs, is
exchanged by the stub with a backup inside the region (kexec-tools copies it).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykexec.abi.kexec import KexecFlag
from pykexec.crash import elfcorehdr
from pykexec.crash.backup_map import BackupMap, BackupRun
from pykexec.crash.notes import moved_note
from pykexec.images.contents import Built
from pykexec.machine import Machine, NoteArea, known
from pykexec.memory.ranges import PhysRange, RangeSet
from pykexec.placement.bind import kernel_image
from pykexec.placement.boot_protocol import boot_protocol, low_memory, page_size
from pykexec.placement.capture_kernel import capture_information, capture_warnings, crash_need
from pykexec.placement.console import stub_console
from pykexec.placement.plan import CrashPlan, Placed
from pykexec.placement.reservation import NothingReserved, reserved_region
from pykexec.placement.role import Role
from pykexec.placement.segment import Source
from pykexec.placement.space import Space
from pykexec.placement.stub_job import MAX_REGIONS, StubJob, encoder, entry_of, with_purgatory
from pykexec.placement.window import requested_window
from pykexec.purgatory import Exchange
from pykexec.remedies import WindowElsewhere

if TYPE_CHECKING:
    from pykexec.arch import Arch
    from pykexec.crash.elfcorehdr import OldMemory
    from pykexec.images.kernel_image import KernelImage
    from pykexec.memory.map import MemoryMap
    from pykexec.placement.granted import Granted
    from pykexec.placement.request import LoadRequest

WHY_HEADERS = "notes, and one program header for each range of the first kernel's memory"
WHY_BACKUP = "the stub exchanges it with the low pages that the trampoline needs"


def plan_crash(
    image: KernelImage, machine: Machine, request: LoadRequest, granted: Granted
) -> CrashPlan:
    """Plan a load into the crash region. Raises NothingReserved, NotSupported for an unknown fact,
    DoesNotFit."""
    protocol, memory_map = boot_protocol(machine), machine.known_map
    page = protocol.arch.page_size
    region = _crash_region(machine, request)
    space = Space(RangeSet((region,)), page)
    low = RangeSet() if request.hotplug else low_memory(machine)
    backup = space.take(Role.BACKUP, low.size) if low else None
    exchanged = _low_backup(low, backup)
    dump = _describe_dump(machine, memory_map, exchanged)
    headers = space.take(Role.ELFCOREHDR, _headers_size(machine, request, dump))
    usable = low_memory(machine) | _usable_regions(machine, region)
    copies = [backup] if backup else []
    information = capture_information(
        image, machine, request, granted.rng_seed, usable, headers, copies
    )
    stub_size = protocol.stub_size(machine, MAX_REGIONS, len(low))
    purgatory = space.take(Role.PURGATORY, stub_size, lowest=protocol.limits.purgatory_min)
    boot = protocol.place(space, image, request, information)
    raw = Built(dump.encode(headers.start))
    placed = [
        *protocol.placed(image, request, boot, information),
        Placed(
            Role.ELFCOREHDR, headers, WHY_HEADERS, raw, Source.BUILT, digested=not request.hotplug
        ),
        *([Placed(Role.BACKUP, backup, WHY_BACKUP)] if backup else []),
    ]
    exchanges = tuple(Exchange(run.dest, run.source, run.size) for run in exchanged)
    console = stub_console(machine, protocol.limits, request.serial_port)
    job = StubJob(
        boot.information.start,
        boot.entry,
        exchanges=exchanges,
        checks=request.checks,
        console=console,
    )
    guess = crash_need(image, machine, request)
    flags = KexecFlag.KEXEC_ON_CRASH
    if request.hotplug:
        flags |= KexecFlag.KEXEC_UPDATE_ELFCOREHDR
    return CrashPlan(
        image=image,
        request=request,
        memory_map=memory_map,
        page_size=page,
        placed=with_purgatory(placed, purgatory, job, encoder(protocol, machine)),
        entry=entry_of(request, purgatory),
        boot=boot,
        headers=headers,
        flags=flags,
        cmdline=information.cmdline,
        next_map=information.memory_map,
        window=region,
        estimate=guess,
        console=console,
        warnings=capture_warnings(machine, request, region.size, guess, information.cmdline),
    )


def _crash_region(machine: Machine, request: LoadRequest) -> PhysRange:
    """The reserved region, limited to --mem-min and --mem-max."""
    region = reserved_region(machine)
    window = requested_window(request, page_size(machine))
    inside = region.intersect(window) if window else region
    if inside is None:
        raise NothingReserved(
            f"the crash region {region} is outside of {window}",
            hint=WindowElsewhere("inside of the region"),
        )
    return inside


def _usable_regions(machine: Machine, region: PhysRange) -> RangeSet:
    """The region of the load, and the others: crashkernel=SIZE,high adds one below 4 GiB, with
    memory of the capture kernel for devices that cannot reach further."""
    reserved = machine.crash_kernel or RangeSet()
    return RangeSet.of((*reserved.ranges[:-1], region))


def _low_backup(low: RangeSet, backup: PhysRange | None) -> BackupMap:
    """Maps each low piece to its place in the backup."""
    runs: list[BackupRun] = []
    at = backup.start if backup else 0
    for span in low:
        runs.append(BackupRun(span.start, at, span.size))
        at += span.size
    return BackupMap.of(runs)


@dataclass(frozen=True, slots=True)
class DumpParts:
    """The contents of the headers; only their own address is missing."""

    notes: tuple[NoteArea, ...]
    loads: tuple[OldMemory, ...]
    page_offset_base: int
    arch: Arch
    image: tuple[tuple[int, OldMemory], ...] = ()

    @property
    def size(self) -> int:
        return elfcorehdr.size_of(len(self.notes), len(self.loads) + len(self.image))

    def encode(self, at: int) -> bytes:
        return elfcorehdr.build(
            at,
            self.notes,
            self.loads,
            page_offset_base=self.page_offset_base,
            image=self.image,
            arch=self.arch,
        )


def _describe_dump(machine: Machine, memory_map: MemoryMap, backup: BackupMap) -> DumpParts:
    """The dump of everything except the reserved regions. Raises NotSupported for an unknown
    fact."""
    hint = "run as root, on a kernel with CONFIG_CRASH_DUMP"
    cpus = known(machine.cpus, "the address of the CPUs' crash notes", hint)
    vmcoreinfo = known(machine.vmcoreinfo, "the address of VMCOREINFO", hint)
    base = known(machine.page_offset_base, "the start of the direct map", hint)
    areas = [NoteArea(cpu.addr, cpu.size) for cpu in cpus]
    moved = [moved_note(area, backup) for area in (*areas, vmcoreinfo)]
    arch = machine.known_arch
    ram = memory_map.old_memory(arch.page_size)
    loads = elfcorehdr.old_memory(ram, backup, machine.crash_kernel or RangeSet())
    image = kernel_image(machine, loads, len(moved))
    return DumpParts(tuple(area for area in moved if area), loads, base, arch, image)


def _headers_size(machine: Machine, request: LoadRequest, dump: DumpParts) -> int:
    """Size of the headers in bytes; with --hotplug as much as the kernel needs to rewrite them."""
    if not request.hotplug:
        return dump.size
    wanted = known(
        machine.kexec.crash_elfcorehdr_size,
        "the size that the kernel needs for headers that it updates itself",
        "use a kernel of 6.6 or later with CONFIG_CRASH_HOTPLUG",
    )
    return max(wanted, dump.size)
