"""An ELF file that is not a Linux kernel, as in kexec-elf-x86.c: its parts at the addresses for
which they are linked, the purgatory and the ELF boot notes in the lowest free pages."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING

from pykexec import __version__
from pykexec.abi.elf import NHDR
from pykexec.abi.x86.elf_boot import ELF_BOOT_MAGIC, BootNote, Elf_Bhdr
from pykexec.abi.x86.page import PAGE_SIZE
from pykexec.errors import UsageError
from pykexec.images.contents import Built
from pykexec.memory.hole import locate_hole
from pykexec.memory.ranges import MIB, PhysRange, align_down, align_up
from pykexec.placement.plan import NormalPlan, Placed
from pykexec.placement.role import Role
from pykexec.placement.segment import Source
from pykexec.placement.x86 import labels, layout
from pykexec.placement.x86.normal_load import MAX_PARTS, NormalLoad, refuse_initrd
from pykexec.placement.x86.stub import X86StubJob
from pykexec.remedies import Omit, Wish

if TYPE_CHECKING:
    from pykexec.images.kernel_image import ElfBoot, KernelImage
    from pykexec.machine import Machine
    from pykexec.placement.request import LoadRequest
    from pykexec.placement.space import Space

WHY_LOW = "at the lowest free address"
MOVE_ALIGN = layout.WINDOW_ALIGN


def plan_elf(
    image: KernelImage, boot: ElfBoot, machine: Machine, request: LoadRequest
) -> NormalPlan:
    """Plan a normal load. Raises PlaceTaken, DoesNotFit, UsageError, NotSupported for an unknown
    memory map."""
    refuse_initrd(image, request)
    load = NormalLoad.begin(image, machine, request)
    mode = 32 if load.from_32 else 64
    if request.direct and boot.bits != mode:
        raise UsageError(
            f"{image.path} is a {boot.bits}-bit image, but without the purgatory it would start in "
            f"{mode}-bit mode",
            hint=Omit(Wish.DIRECT, rest=": the purgatory changes the mode"),
        )
    below = layout.BELOW_4G.end if boot.bits == 32 else 1 << 64
    moved = _distance(load.space, boot, below)
    parts = load.take_parts(boot.parts, moved)
    purgatory = load.take_purgatory(MAX_PARTS + 1, below=below, from_top=False)
    notes = Built(_boot_notes(load.line.encoded))
    notes_at = load.space.take(labels.BOOT_NOTES, notes.size, below=below, from_top=False)
    register = "RDI points" if boot.bits == 64 else "EDI and the stack point"
    why = f"{WHY_LOW}; {register} here"
    placed = Placed(
        Role.BOOT_INFORMATION, notes_at, why, notes, Source.BUILT, label=labels.BOOT_NOTES
    )
    job = X86StubJob(0, boot.entry + moved, rdi=notes_at.start, entry_32=boot.bits == 32)
    plan = load.plan((*parts, placed), purgatory, job, WHY_LOW, map_given=False)
    return replace(plan, entry=job.entry) if request.direct and request.entry is None else plan


def _distance(space: Space, boot: ElfBoot, below: int) -> int:
    """How far a relocatable image must be moved: 0 if its own place is free."""
    if not boot.relocatable:
        return 0
    start, end = boot.parts[0].addr, boot.parts[-1].end
    if space.free.covers(PhysRange(start, end)):
        return 0
    first = align_down(start, MOVE_ALIGN)
    found = locate_hole(
        space.free,
        align_up(end - first, PAGE_SIZE),
        align=MOVE_ALIGN,
        window=PhysRange(MIB, below),
        from_top=False,
        name="the ELF image",
    )
    return found.start - first


def _boot_notes(line: bytes) -> bytes:
    """Loader, its version and the command line, each with a terminating NUL, which `line` already
    has."""
    records = (
        (BootNote.EBN_BOOTLOADER_NAME, b"pykexec\0"),
        (BootNote.EBN_BOOTLOADER_VERSION, __version__.encode() + b"\0"),
        (BootNote.EBN_COMMAND_LINE, line),
    )
    notes = b"".join(_boot_note(kind, desc) for kind, desc in records)
    head = {"b_signature": ELF_BOOT_MAGIC, "b_checksum": 0, "b_records": len(records)}
    head["b_size"] = Elf_Bhdr.sizeof() + len(notes)
    head["b_checksum"] = ip_checksum(Elf_Bhdr.build(head) + notes)
    built: bytes = Elf_Bhdr.build(head) + notes
    return built


def _boot_note(kind: BootNote, desc: bytes) -> bytes:
    return NHDR.pack(0, len(desc), kind) + desc.ljust(align_up(len(desc), 4), b"\0")


def ip_checksum(data: bytes) -> int:
    """RFC 1071, over whole 16-bit words, in memory byte order."""
    total: int = sum(struct.unpack(f"<{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
