"""The ELF core headers that elfcorehdr= points to.

PT_NOTEs come first: fs/proc/vmcore.c:merge_note_headers overwrites what precedes them. A PT_LOAD is
read from p_offset, a physical address, and shown at p_paddr: that is how a backup page is
described. See kernel-contract 7.2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pykexec.abi.elf import (
    EHDR,
    EI_IDENT,
    ET_CORE,
    EV_CURRENT,
    PF_R,
    PF_W,
    PF_X,
    PHDR,
    PT_LOAD,
    PT_NOTE,
)
from pykexec.errors import DoesNotFit
from pykexec.frozen import dataclass
from pykexec.machine import KernelMapping, NoteArea
from pykexec.memory.ranges import PhysRange, RangeSet

if TYPE_CHECKING:
    from pykexec.arch import Arch
    from pykexec.crash.backup_map import BackupMap

MAX_PROGRAM_HEADERS = 0xFFFF
"""e_phnum has 16 bits, and vmcore.c does not support PN_XNUM."""


class TooManyHeaders(DoesNotFit):
    """The old memory is in more pieces than e_phnum can count."""

    code = "too-many-headers"

    def __init__(self, count: int) -> None:
        super().__init__(
            f"{count} program headers are needed, but ELF core headers can have at most "
            f"{MAX_PROGRAM_HEADERS}",
            hint="use a smaller window, or load while memory is less fragmented",
            count=count,
        )


@dataclass(frozen=True, order=True, slots=True)
class OldMemory:
    """`size` bytes of the first kernel: their original address, and their present one."""

    paddr: int
    offset: int
    size: int


def old_memory(
    ram: RangeSet, backup: BackupMap, left_out: RangeSet | None = None
) -> tuple[OldMemory, ...]:
    """All whole-page RAM of the first kernel, each page once, by original address.

    Left out are pages in place, which were free, and `left_out`, which is memory of pykexec itself
    (a stage in huge pages).
    """
    gone = backup.destinations | (left_out or RangeSet())
    found = [OldMemory(span.start, span.start, span.size) for span in ram - gone]
    for run in backup.moved:
        for span in ram.within(run.dest_range):
            found.append(OldMemory(span.start, run.source + span.start - run.dest, span.size))
    return tuple(sorted(found))


def image_pieces(
    loads: Iterable[OldMemory], mapping: KernelMapping
) -> tuple[tuple[int, OldMemory], ...]:
    """(virtual address, memory) of the kernel's image once more, where it was mapped, as
    kernel/crash_core.c:crash_prepare_elf64_headers describes it. Tools that do not know phys_base
    of VMCOREINFO, such as kexec-tools' vmcore-dmesg, find the kernel's data by it."""
    found = []
    for piece in loads:
        part = PhysRange.sized(piece.paddr, piece.size).intersect(mapping.range)
        if part:
            offset = piece.offset + part.start - piece.paddr
            vaddr = mapping.vaddr + part.start - mapping.range.start
            found.append((vaddr, OldMemory(part.start, offset, part.size)))
    return tuple(found)


def size_of(notes: int, loads: int, copied_note: int = 0) -> int:
    """Bytes of the ELF core headers with this many program headers, including the note copied after
    them."""
    return EHDR.size + PHDR.size * (notes + loads) + copied_note


def build(
    addr: int,
    notes: Iterable[NoteArea],
    loads: Iterable[OldMemory],
    *,
    arch: Arch,
    page_offset_base: int,
    copied_note: bytes = b"",
    image: Iterable[tuple[int, OldMemory]] = (),
) -> bytes:
    """Build the headers for the address `addr`, directly followed by `copied_note`.

    `arch` is that of the first kernel. p_vaddr is the direct map: makedumpfile derives
    page_offset from it; that of `image` (see image_pieces) is given with it. Raises
    TooManyHeaders.
    """
    areas, pieces = list(notes), [*image]
    pieces += [(page_offset_base + piece.paddr & (1 << 64) - 1, piece) for piece in loads]
    phnum = len(areas) + len(pieces) + bool(copied_note)
    if phnum > MAX_PROGRAM_HEADERS:
        raise TooManyHeaders(phnum)
    if copied_note:
        areas.append(NoteArea(addr + EHDR.size + PHDR.size * phnum, len(copied_note)))
    pack = PHDR.pack
    parts = [
        EHDR.pack(
            EI_IDENT, ET_CORE, arch.elf_machine, EV_CURRENT, 0, EHDR.size, 0, 0,
            EHDR.size, PHDR.size, phnum, 0, 0, 0,
        )
    ]  # fmt: skip
    parts += [pack(PT_NOTE, 0, area.addr, 0, 0, area.size, area.size, 0) for area in areas]
    flags = PF_R | PF_W | PF_X
    parts += [
        pack(
            PT_LOAD, flags, piece.offset, vaddr, piece.paddr, piece.size, piece.size, 0
        )
        for vaddr, piece in pieces
    ]  # fmt: skip
    parts.append(copied_note)
    return b"".join(parts)


@dataclass(frozen=True, slots=True)
class ProgramHeader:
    """Elf64_Phdr of a core file, with its fields in order."""

    p_type: int
    p_flags: int
    p_offset: int
    p_vaddr: int
    p_paddr: int
    p_filesz: int
    p_memsz: int
    p_align: int

    @property
    def paddr_range(self) -> PhysRange:
        return PhysRange.sized(self.p_paddr, self.p_memsz)
