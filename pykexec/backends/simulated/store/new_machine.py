"""A layout from a few numbers: the memory map of a BIOS PC, filled according to a seed.

Only random() and getrandbits() of the generator are used: Python guarantees that they return the
same numbers in every version.
"""

from __future__ import annotations

from random import Random

from pykexec.abi.x86.page import PAGE_SIZE
from pykexec.backends.simulated.kernel.layout import (
    BLOCK_SIZE,
    LOW_MEMORY_END,
    MAX_MEMORY,
    MIN_MEMORY,
    PAGE_OFFSET_BASE,
    RELEASES,
    BadLayout,
    Layout,
    RelocateKernel,
    check_end,
)
from pykexec.crash.notes import CPU_NOTE_SIZE, VMCOREINFO_NOTE_SIZE
from pykexec.errors import DoesNotFit, UsageError
from pykexec.machine import CpuNotes, Machine, NoteArea, Unknown
from pykexec.memory.hole import NoHole, locate_hole
from pykexec.memory.map import MemoryMap, MemoryRange, RangeType
from pykexec.memory.ranges import PhysRange, RangeSet, align_down, align_up

MiB = 1 << 20
FOUR_GIB = 4 << 30
PCI_HOLE = 0xC0000000
"""RAM below 4 GiB ends at or below this address, as in QEMU's pc machine."""
FIRMWARE_TOP = 0x20000
"""Memory of the BIOS at the end of low RAM: ACPI tables, NVS, the rest reserved."""

MAX_SEED = 1 << 62
"""The limit of machine.json."""
CPUS = 2
KERNEL_ALIGN = 2 * MiB
KERNEL_SIZE = 48 * MiB
LOWEST_KERNEL = 16 * MiB
"""LOAD_PHYSICAL_ADDR: KASLR does not go below this."""
USER_SHARE = 0.75
"""Of the memory blocks, those without frames of the kernel; in guests of 1 to 4 GiB half to two
thirds of all blocks could be made movable."""
LONGEST_RUN = 64
"""Maximum of frames in one run in use; more if memory exceeds LONG_RUNS."""
LONG_RUNS = 16 << 30
"""Bytes; limits the number of runs, and so the size of machine.json."""
CRASH_ALIGN = 16 * MiB
"""CRASH_ALIGN of arch/x86/kernel/setup.c."""


def new_layout(
    memory: int,
    *,
    seed: int = 0,
    used: int = 40,
    crashkernel: int | None = None,
    relocate: RelocateKernel = RelocateKernel.SWAP,
    from_machine: Machine | None = None,
) -> Layout:
    """`memory` and `crashkernel` in bytes, `used` in percent of all whole frames.

    Facts known in `from_machine` are used, including its memory map instead of `memory`. Raises
    UsageError for impossible numbers, DoesNotFit if there is no space for the reservation or the
    kernel.
    """
    if not 0 <= used <= 100:
        raise UsageError(f"{used} percent of memory cannot be in use")
    if abs(seed) > MAX_SEED:
        raise UsageError(f"seed {seed} has more than 62 bits")
    rng = Random(seed)
    known = from_machine or Machine(name="simulated")
    memory_map = _machine_map(known, memory)
    frames = memory_map.whole_page_ram(PAGE_SIZE)
    low = frames.within(PhysRange(0, LOW_MEMORY_END))
    image = known.kernel_image
    if isinstance(image, Unknown) or not image:
        image = RangeSet((_kernel_place(frames - low, rng),))
    image = RangeSet.of(span.outward(PAGE_SIZE) for span in image) & frames
    room = frames - low - image
    reservation = reserved(known, room, crashkernel)
    if reservation:
        room = room.without(reservation)
    cpus, vmcoreinfo = _own_frames(known, room, rng)
    areas: list[CpuNotes | NoteArea] = [*cpus, vmcoreinfo]
    own = RangeSet.of(PhysRange.sized(a.addr, a.size).outward(PAGE_SIZE) for a in areas)
    if own & (low | image):
        raise BadLayout("notes are in low memory or in the kernel image")
    room = room - own
    wanted = frames.size // PAGE_SIZE * used // 100 - (low | image).size // PAGE_SIZE
    runs = _random_runs(room, max(0, wanted), rng)
    return Layout(
        memory_map=memory_map,
        in_use=low | image | runs,
        user=runs & _user_blocks(memory_map, seed),
        kernel_image=image,
        cpus=cpus,
        vmcoreinfo=vmcoreinfo,
        reservation=reservation,
        release=known.release if isinstance(known.release, str) else RELEASES[relocate],
        cmdline=_first_cmdline(known, reservation),
        page_offset_base=known.page_offset_base
        if isinstance(known.page_offset_base, int)
        else PAGE_OFFSET_BASE,
    )


def _user_blocks(memory_map: MemoryMap, seed: int) -> RangeSet:
    """The memory blocks in which only user pages and page cache are in use: the kernel keeps its
    own frames together (pageblock_flags). The lowest block is never one."""
    rng = Random(f"{seed}:user")
    end = memory_map.ram.ranges[-1].end
    return RangeSet.of(
        PhysRange.sized(start, BLOCK_SIZE)
        for start in range(BLOCK_SIZE, end, BLOCK_SIZE)
        if rng.random() < USER_SHARE
    )


def _machine_map(known: Machine, memory: int) -> MemoryMap:
    """A captured map without its first page; otherwise that of a BIOS PC."""
    if isinstance(known.memory_map, Unknown):
        return _bios_map(memory)
    if known.memory_map.ram:
        check_end(known.memory_map.ram.ranges[-1].end)
    first_page = MemoryRange(PhysRange(0, PAGE_SIZE), RangeType.RESERVED)
    return MemoryMap.of((*known.memory_map.ranges, first_page))


def _bios_map(memory: int) -> MemoryMap:
    """What QEMU and SeaBIOS report for `memory` bytes of RAM, as in a kernel's iomem."""
    if memory % PAGE_SIZE or not MIN_MEMORY <= memory <= MAX_MEMORY - (FOUR_GIB - PCI_HOLE):
        raise UsageError(
            f"a simulated machine cannot have {memory:#x} bytes of memory",
            hint=f"use whole pages, from {MIN_MEMORY >> 20}M to {(MAX_MEMORY >> 30) - 1}G",
        )
    low = min(memory, PCI_HOLE)
    top = low - FIRMWARE_TOP
    ram, reserved = RangeType.RAM, RangeType.RESERVED
    rows = [
        (0x0, 0x1000, reserved),
        (0x1000, 0x9FC00, ram),
        (0x9FC00, 0xA0000, reserved),
        (0xF0000, 0x100000, reserved),
        (0x100000, top, ram),
        (top, top + 0x10000, RangeType.ACPI),
        (top + 0x10000, top + 0x11000, RangeType.NVS),
        (top + 0x11000, low, reserved),
        (0xFEFFC000, 0xFF000000, reserved),
        (0xFFFC0000, FOUR_GIB, reserved),
    ]
    if memory > low:
        rows.append((FOUR_GIB, FOUR_GIB + memory - low, ram))
    return MemoryMap.of(MemoryRange(PhysRange(start, end), kind) for start, end, kind in rows)


def _kernel_place(room: RangeSet, rng: Random) -> PhysRange:
    """The place of the kernel by KASLR; with less than 64 MiB of memory a smaller one, and
    lower."""
    small = room.ranges[-1].end < 4 * LOWEST_KERNEL if room else True
    size = KERNEL_SIZE
    if small or room.size < 2 * KERNEL_SIZE:
        size = max(64 << 10, align_down(room.size // 8, PAGE_SIZE))
    lowest = KERNEL_ALIGN if small else LOWEST_KERNEL
    places = [
        range(align_up(max(span.start, lowest), KERNEL_ALIGN), span.end - size + 1, KERNEL_ALIGN)
        for span in room.within(PhysRange(0, FOUR_GIB))
    ]
    choice = _below(rng, max(1, sum(len(place) for place in places)))
    for place in places:
        if choice < len(place):
            return PhysRange.sized(place[choice], size)
        choice -= len(place)
    raise DoesNotFit(f"no space for a kernel image of {size:#x} bytes")


def reserved(known: Machine, room: RangeSet, crashkernel: int | None) -> PhysRange | None:
    """crashkernel=SIZE: as reserve_crashkernel, aligned to 16 MiB, as high as possible below 4
    GiB."""
    if crashkernel is None:
        if not isinstance(known.crash_kernel, Unknown) and known.crash_kernel:
            span = known.crash_kernel.ranges[-1].inward(PAGE_SIZE)
            return span if span and room.covers(span) else None
        return None
    size = align_up(crashkernel, PAGE_SIZE)
    if size <= 0:
        raise UsageError(f"crashkernel={crashkernel} reserves nothing")
    try:
        return locate_hole(room, size, align=CRASH_ALIGN, window=PhysRange(0, FOUR_GIB))
    except NoHole as error:
        raise DoesNotFit(f"crashkernel={size:#x}: {error.message}", hint=error.remedy) from error


def _own_frames(
    known: Machine, room: RangeSet, rng: Random
) -> tuple[tuple[CpuNotes, ...], NoteArea]:
    """The frames that the kernel writes when it crashes; known ones are reused."""
    note = known.vmcoreinfo
    if isinstance(note, Unknown) or not room.covers(PhysRange.sized(note.addr, note.size)):
        firsts = RangeSet(
            tuple(
                PhysRange(span.start, span.end - PAGE_SIZE)
                for span in room
                if span.size > PAGE_SIZE
            )
        )
        note = NoteArea(_random_frame(firsts, "the VMCOREINFO note", rng), VMCOREINFO_NOTE_SIZE)
    room = room.without(PhysRange.sized(note.addr, note.size).outward(PAGE_SIZE))
    if isinstance(known.cpus, tuple) and all(
        room.covers(PhysRange.sized(item.addr, item.size)) for item in known.cpus
    ):
        return known.cpus, note
    cpus = []
    for cpu in range(CPUS):
        frame = _random_frame(room, f"the notes of CPU {cpu}", rng)
        room = room.without(PhysRange.sized(frame, PAGE_SIZE))
        cpus.append(_cpu_notes(cpu, frame, rng))
    return tuple(cpus), note


def _random_frame(room: RangeSet, what: str, rng: Random) -> int:
    """Address of a random frame."""
    if not room:
        raise DoesNotFit(f"no space for {what}")
    return counted(room, _below(rng, room.size // PAGE_SIZE), 1)[0].start


def _cpu_notes(cpu: int, frame: int, rng: Random) -> CpuNotes:
    """crash_notes at a random place in a frame; alloc_percpu aligns it so that it does not cross
    frames."""
    offset = _below(rng, (PAGE_SIZE - CPU_NOTE_SIZE) // 4 + 1) * 4
    return CpuNotes(cpu, frame + offset, CPU_NOTE_SIZE)


def _random_runs(room: RangeSet, wanted: int, rng: Random) -> RangeSet:
    """`wanted` frames of `room` (or all, if it has fewer) in runs of 1 to LONGEST_RUN.

    Frames of `room` are numbered as if it had no gaps; the free ones are distributed randomly
    between the runs.
    """
    total = room.size // PAGE_SIZE
    wanted = min(wanted, total)
    longest = LONGEST_RUN * -(-room.size // LONG_RUNS)
    lengths: list[int] = []
    left = wanted
    while left:
        lengths.append(min(left, 1 + _below(rng, longest)))
        left -= lengths[-1]
    shares = [rng.random() ** 2 for _ in range(len(lengths) + 1)]
    scale = (total - wanted) / (sum(shares) or 1.0)
    found: list[PhysRange] = []
    position, gone = 0, 0.0
    used = 0
    for length, share in zip(lengths, shares, strict=False):
        gone += share * scale
        position = min(used + int(gone), total - wanted + used)
        found.extend(counted(room, position, length))
        used += length
    return RangeSet.of(found)


def counted(room: RangeSet, position: int, length: int) -> list[PhysRange]:
    """Frames number `position` to `position + length` of `room`, as ranges."""
    found: list[PhysRange] = []
    skip, left = position * PAGE_SIZE, length * PAGE_SIZE
    for span in room:
        if skip >= span.size:
            skip -= span.size
            continue
        piece = PhysRange.sized(span.start + skip, min(left, span.size - skip))
        found.append(piece)
        skip, left = 0, left - piece.size
        if not left:
            break
    return found


def _first_cmdline(known: Machine, reservation: PhysRange | None) -> str:
    if isinstance(known.cmdline, str):
        return known.cmdline
    words = ["BOOT_IMAGE=/vmlinuz", "root=/dev/vda1", "ro", "console=ttyS0"]
    if reservation:
        words.append(f"crashkernel={reservation.size >> 10}K")
    return " ".join(words)


def _below(rng: Random, limit: int) -> int:
    """A number in 0..limit."""
    return int(rng.random() * limit)
