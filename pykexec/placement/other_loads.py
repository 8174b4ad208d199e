"""What the loads of everything but Linux x86_64 share: normal loads only, a purgatory in
front, and refusals of what such an image cannot be given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pykexec.abi.kexec import PAGE_SIZE, KexecFlag
from pykexec.errors import DoesNotFit, NotSupported, UsageError
from pykexec.images.contents import Built, Contents, Joined, Zeros
from pykexec.images.kernel_image import KernelImage, LoadPart
from pykexec.machine import Machine, Unknown
from pykexec.memory.map import MemoryMap
from pykexec.memory.ranges import ALL_MEMORY, PhysRange, align_up
from pykexec.placement import layout
from pykexec.placement.cmdline import CommandLine, command_line
from pykexec.placement.linux_x86_64 import regions, running_line
from pykexec.placement.plan import PURGATORY, LoadRequest, Placed, PlacementPlan
from pykexec.placement.purgatory import StubJob, stub_memsz
from pykexec.placement.segment import Source
from pykexec.placement.space import Space
from pykexec.placement.window import requested_window

BELOW_4G = 1 << 32
MAX_PARTS = 12
"""Segments of an image; with the purgatory and what it is told, kexec_load takes 16."""


def refuse_initrd(image: KernelImage, request: LoadRequest) -> None:
    """What this image would not be told is an error, and never ignored."""
    if request.initrd is not None:
        raise UsageError(
            f"--initrd would be ignored: {image.path} is of type {image.type}",
            hint="a multiboot image is given files with --module",
        )


def free_memory(machine: Machine, request: LoadRequest) -> tuple[MemoryMap, Space]:
    """The map, and what of its RAM a load may use."""
    memory_map = machine.known_map
    window = requested_window(request) or ALL_MEMORY
    return memory_map, Space(memory_map.whole_page_ram.without(layout.FIRST_PAGE).within(window))


def from_32(machine: Machine) -> bool:
    """Whether the running kernel enters the purgatory in 32-bit mode. Raises NotSupported for
    a processor that has no other."""
    flags = machine.cpu_flags
    if machine.is_i386 and not isinstance(flags, Unknown) and "lm" not in flags:
        raise NotSupported(
            "this processor has no 64-bit mode, in which the purgatory works",
            hint="/proc/cpuinfo shows no lm",
        )
    return machine.is_i386


def purgatory_size(machine: Machine, n_regions: int) -> int:
    return stub_memsz(n_regions, from_32=from_32(machine))


def plain_line(machine: Machine, request: LoadRequest) -> CommandLine:
    return command_line(request.append, running_line(machine, request), request.cmdline_remove)


def take_parts(
    space: Space, image: KernelImage, parts: Iterable[LoadPart], moved: int = 0
) -> tuple[Placed, ...]:
    """Each part at its own address (plus `moved`). Parts that share a page are one segment."""
    placed = []
    at = (replace(part, addr=part.addr + moved) for part in parts)
    for number, piece in enumerate(whole_pages(at)):
        name = f"{image.type} part {number}" if number else f"{image.type} image"
        span = space.take_at(name, PhysRange.sized(piece.addr, piece.memsz))
        why = "where it is linked" if not moved else f"moved by {moved:#x} from where it is linked"
        source = Source.FILE if piece.contents else Source.MEMORY_ONLY
        placed.append(Placed(name, span, why, piece.contents, source))
    if len(placed) > MAX_PARTS:
        raise DoesNotFit(
            f"{image.path} has {len(placed)} parts, {MAX_PARTS} fit into a kexec_load",
            hint="KEXEC_SEGMENT_MAX is 16",
        )
    return tuple(placed)


def whole_pages(parts: Iterable[LoadPart]) -> tuple[LoadPart, ...]:
    """The parts, from a page's start each: one that begins in another's last page becomes
    part of that one."""
    merged: list[LoadPart] = []
    for part in sorted(parts, key=lambda item: item.addr):
        start = part.addr // PAGE_SIZE * PAGE_SIZE
        if merged and start < align_up(merged[-1].end, PAGE_SIZE):
            merged[-1] = joined(merged[-1], part)
        else:
            merged.append(joined(LoadPart(start, 0, None), part))
    return tuple(merged)


def joined(before: LoadPart, after: LoadPart) -> LoadPart:
    """Two parts as one, with zeros between their bytes."""
    memsz = after.end - before.addr
    if after.contents is None:
        return replace(before, memsz=memsz)
    pieces: list[Contents] = []
    if before.contents:
        pieces.append(before.contents)
    gap = after.addr - before.addr - (before.contents.size if before.contents else 0)
    if gap:
        pieces.append(Zeros(gap))
    pieces.append(after.contents)
    contents = pieces[0] if len(pieces) == 1 else Joined(tuple(pieces))
    return LoadPart(before.addr, memsz, contents)


def finish(
    image: KernelImage,
    machine: Machine,
    request: LoadRequest,
    memory_map: MemoryMap,
    placed: Iterable[Placed],
    purgatory: PhysRange,
    job: StubJob,
    line: CommandLine,
    why_purgatory: str,
    warnings: tuple[str, ...] = (),
) -> PlacementPlan:
    """The purgatory is made last, since it has the digest of everything else."""
    things = list(placed)
    checked = replace(
        job,
        regions=regions(things) if request.checks else (),
        checks=request.checks,
        from_32=from_32(machine),
    )
    things.append(
        Placed(
            PURGATORY,
            purgatory,
            f"{why_purgatory}; the entry: checks the digests, then starts the image",
            Built(checked.encode(purgatory.start)),
            Source.BUILT,
        )
    )
    return PlacementPlan(
        image=image,
        request=request,
        memory_map=memory_map,
        placed=tuple(sorted(things, key=lambda item: item.range)),
        entry=purgatory.start if request.entry is None else request.entry,
        flags=KexecFlag(0),
        cmdline=line,
        capture_map=memory_map,
        window=requested_window(request),
        warnings=warnings,
    )
