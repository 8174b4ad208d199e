"""Common parts of all normal loads, whatever the image: the free memory, the command line, and the
purgatory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from pykexec.abi.kexec import KexecFlag
from pykexec.abi.x86.page import PAGE_SIZE
from pykexec.arch import I386
from pykexec.errors import DoesNotFit, NotSupported, UsageError
from pykexec.frozen import dataclass
from pykexec.images.elf_parts import flat
from pykexec.images.kernel_image import KernelImage, LoadPart
from pykexec.machine import Machine, Unknown
from pykexec.memory.map import MemoryMap
from pykexec.memory.ranges import PhysRange, align_down, align_up
from pykexec.placement.cmdline import CommandLine, check_length, command_line, running_line
from pykexec.placement.console import stub_console
from pykexec.placement.plan import NormalPlan, Placed
from pykexec.placement.role import Role
from pykexec.placement.segment import Source
from pykexec.placement.space import Space
from pykexec.placement.stub_job import entry_of, with_purgatory
from pykexec.placement.window import requested_window
from pykexec.placement.x86 import layout
from pykexec.placement.x86.next_map import next_map_warnings, next_memory_map
from pykexec.placement.x86.stub import X86StubJob, stub_memsz
from pykexec.remedies import Use, Wish

if TYPE_CHECKING:
    from pykexec.placement.request import LoadRequest

MAX_PARTS = 12
"""Segments of an image; with the purgatory and its information, kexec_load takes 16."""


@dataclass(frozen=True)
class NormalLoad:
    """A load for which nothing is placed yet; `space` shrinks with every allocation."""

    image: KernelImage
    machine: Machine
    request: LoadRequest
    memory_map: MemoryMap
    """The running kernel's map, in which everything is placed."""
    next_map: MemoryMap
    """The map for the next kernel; nothing is placed where it has no RAM."""
    window: PhysRange | None
    space: Space
    line: CommandLine

    @classmethod
    def begin(
        cls,
        image: KernelImage,
        machine: Machine,
        request: LoadRequest,
        cmdline_size: int | None = None,
    ) -> NormalLoad:
        """`cmdline_size` is the longest command line that the image accepts, in bytes without its
        NUL; None if there is no limit. Raises UsageError, DoesNotFit, NotSupported."""
        memory_map, window = machine.known_map, requested_window(request, PAGE_SIZE)
        given = next_memory_map(machine)
        free = (memory_map.whole_page_ram(PAGE_SIZE) & given.whole_page_ram(PAGE_SIZE)).within(
            layout.limits_of(layout.arch_of(machine)).destinations
        )
        space = Space(free.within(window) if window else free, PAGE_SIZE)
        running = running_line(machine, request.reuse_cmdline)
        line = command_line(request.append, running, request.cmdline_remove)
        if cmdline_size is not None:
            check_length(line, cmdline_size)
        return cls(image, machine, request, memory_map, given, window, space, line)

    @property
    def from_32(self) -> bool:
        """Whether the running kernel enters the purgatory in 32-bit mode. Raises NotSupported for a
        processor without 64-bit mode."""
        flags = self.machine.cpu_flags
        if self.machine.arch is I386 and not isinstance(flags, Unknown) and "lm" not in flags:
            raise NotSupported(
                "this processor has no 64-bit mode, in which the purgatory runs",
                hint="use a processor with the flag lm in /proc/cpuinfo",
            )
        return self.machine.arch is I386

    def take_purgatory(
        self, n_regions: int, *, lowest: int = 0, below: int = 1 << 64, from_top: bool = True
    ) -> PhysRange:
        """Take space for a stub that checks this many regions. Raises NoHole, NotSupported."""
        size = stub_memsz(n_regions, from_32=self.from_32)
        return self.space.take(Role.PURGATORY, size, lowest=lowest, below=below, from_top=from_top)

    def take_parts(self, parts: Iterable[LoadPart], moved: int = 0) -> tuple[Placed, ...]:
        """Place each part at its own address (plus `moved`). Parts that share a page become one
        segment. Raises PlaceTaken, DoesNotFit."""
        why = (
            "at the address for which it is linked"
            if not moved
            else f"moved by {moved:#x} from the address for which it is linked"
        )
        at = (replace(part, addr=part.addr + moved) for part in parts)
        placed = []
        for number, piece in enumerate(_whole_pages(at)):
            name = f"{self.image.type} part {number}" if number else f"{self.image.type} image"
            span = self.space.take_at(name, PhysRange.sized(piece.addr, piece.memsz))
            source = Source.FILE if piece.contents else Source.MEMORY_ONLY
            placed.append(Placed(Role.PART, span, why, piece.contents, source, label=name))
        if len(placed) > MAX_PARTS:
            raise DoesNotFit(
                f"{self.image.path} has {len(placed)} parts, but kexec_load accepts only "
                f"{MAX_PARTS}",
                hint="KEXEC_SEGMENT_MAX is 16",
            )
        return tuple(placed)

    def plan(
        self,
        placed: Iterable[Placed],
        purgatory: PhysRange,
        job: X86StubJob,
        why: str,
        *,
        starts: str = "image",
        map_given: bool = True,
        warnings: tuple[str, ...] = (),
    ) -> NormalPlan:
        """The objects and the purgatory, whose place is explained by `why`; `starts` names what it
        starts. `map_given` is false for an image that does not get a memory map."""
        console = stub_console(
            self.machine,
            layout.limits_of(layout.arch_of(self.machine)),
            self.request.serial_port,
        )
        job = replace(
            job,
            checks=self.request.checks,
            from_32=self.from_32,
            console=console,
        )
        return NormalPlan(
            image=self.image,
            request=self.request,
            memory_map=self.memory_map,
            page_size=PAGE_SIZE,
            placed=with_purgatory(placed, purgatory, job, X86StubJob.encode, why, starts),
            entry=entry_of(self.request, purgatory),
            flags=KexecFlag(0),
            cmdline=self.line,
            next_map=self.next_map if map_given else MemoryMap(()),
            window=self.window,
            console=console,
            warnings=(*warnings, *(next_map_warnings(self.machine) if map_given else ())),
        )


def refuse_initrd(image: KernelImage, request: LoadRequest) -> None:
    """An initrd for an image that takes none is an error, and never ignored."""
    if request.initrd is not None:
        raise UsageError(
            f"an initrd has no effect: {image.path} is of type {image.type}",
            hint=Use(Wish.MODULE, rest=" to pass files to a multiboot image"),
        )


def _whole_pages(parts: Iterable[LoadPart]) -> Iterator[LoadPart]:
    """The parts in address order, each from the start of a page; those that share a page are
    merged."""
    groups: list[list[LoadPart]] = []
    for part in sorted(parts, key=lambda item: item.addr):
        if groups and align_down(part.addr, PAGE_SIZE) < align_up(groups[-1][-1].end, PAGE_SIZE):
            groups[-1].append(part)
        else:
            groups.append([part])
    for group in groups:
        start = align_down(group[0].addr, PAGE_SIZE)
        yield LoadPart(start, group[-1].end - start, flat(group, start))
