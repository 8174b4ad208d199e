"""/proc/vmcore as a file: ELF core headers and memory.

Reads as fs/proc/vmcore.c does, including what it does not check: e_phoff is ignored, e_phnum has 16
bits, the notes must come first, and p_filesz is ignored.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Protocol

from pykexec.abi.elf import (
    EHDR,
    ELFCLASS64,
    ELFMAG,
    EM_X86_64,
    ET_CORE,
    EV_CURRENT,
    PHDR,
    PT_LOAD,
    PT_NOTE,
    file_header,
)
from pykexec.crash.elfcorehdr import ProgramHeader
from pykexec.crash.notes import note_spans
from pykexec.errors import KexecError
from pykexec.memory.ranges import PhysRange, align_down, align_up

NOTE_MAX = 4 << 20
"""kmalloc refuses a PT_NOTE larger than this."""
ADDRESSES = 1 << 64


class VmcoreNotInitialized(KexecError):
    """The capture kernel would print "vmcore not initialized" and have no /proc/vmcore."""

    code = "vmcore-not-initialized"
    usual_hint = "its ELF core headers are damaged, or not those of this load: load again"


class PhysicalMemory(Protocol):
    """Memory by physical address, as the capture kernel reads it."""

    def read(self, addr: int, size: int) -> bytes:
        """`size` bytes. Raises KexecError if there is no old memory."""
        ...

    def copy_to(self, fd: int, offset: int, span: PhysRange) -> None:
        """Write whole pages into an empty file, at this offset; zeros may become holes. Raises
        OSError."""
        ...


@dataclass(frozen=True, slots=True)
class Vmcore:
    """Header bytes and merged notes as they are in the file, and the source of its pages."""

    memory: PhysicalMemory
    headers: bytes
    """ELF header and program headers, padded to pages, with offsets in the resulting file."""
    notes: bytes
    """The merged note segment, padded to pages."""
    pages: tuple[tuple[int, PhysRange], ...]
    """(file offset, old memory) of each PT_LOAD, whole pages, in file order."""

    @property
    def size(self) -> int:
        if self.pages:
            offset, span = self.pages[-1]
            return offset + span.size
        return len(self.headers) + len(self.notes)

    def write(self, fd: int) -> None:
        """Write to an empty file, at the same offsets; zeros become holes."""
        os.ftruncate(fd, self.size)
        os.pwrite(fd, self.headers + self.notes, 0)
        for offset, span in self.pages:
            self.memory.copy_to(fd, offset, span)


def open_vmcore(memory: PhysicalMemory, elfcorehdr: int, page_size: int) -> Vmcore:
    """Build the file as vmcore_init of a capture kernel with this page size does. Raises
    VmcoreNotInitialized, with the reason, if the kernel would fail."""
    phdrs = _read_headers(memory, elfcorehdr)
    merged, note_count = _merge_notes(memory, phdrs)
    if not merged:
        raise VmcoreNotInitialized("vmcore not initialized: all notes are empty")
    # The merged note replaces entry 0; the next note_count - 1 entries are dropped unchecked.
    kept = phdrs[note_count:]
    header_size = EHDR.size + PHDR.size * (len(kept) + 1)
    note_offset = align_up(header_size, page_size)
    notes = merged.ljust(align_up(len(merged), page_size), b"\0")
    offset = note_offset + len(notes)
    table = [PHDR.pack(PT_NOTE, 0, note_offset, 0, 0, len(merged), len(merged), 0)]
    pages: list[tuple[int, PhysRange]] = []
    for phdr in kept:
        where = phdr.p_offset
        if phdr.p_type == PT_LOAD and phdr.p_memsz:
            span = _old_pages(phdr, page_size)
            pages.append((offset, span))
            where = offset + phdr.p_offset - span.start
            offset += span.size
            if offset > ADDRESSES:  # in the kernel it wraps around
                raise VmcoreNotInitialized(
                    f"vmcore not initialized: {offset:#x} bytes up to PT_LOAD {phdr.p_offset:#x}"
                )
        table.append(
            PHDR.pack(
                phdr.p_type, phdr.p_flags, where, phdr.p_vaddr, phdr.p_paddr,
                phdr.p_filesz, phdr.p_memsz, phdr.p_align,
            )
        )  # fmt: skip
    head = file_header(memory.read(elfcorehdr, EHDR.size))
    head.e_phnum = len(table)
    headers = (EHDR.pack(*head.values()) + b"".join(table)).ljust(note_offset, b"\0")
    return Vmcore(memory, headers, notes, tuple(pages))


def _old_pages(phdr: ProgramHeader, page_size: int) -> PhysRange:
    """The whole pages that a PT_LOAD touches, at their present address."""
    end = phdr.p_offset + phdr.p_memsz
    if end > ADDRESSES - page_size:
        raise VmcoreNotInitialized(
            f"vmcore not initialized: PT_LOAD at {phdr.p_offset:#x} wraps around"
        )
    return PhysRange(align_down(phdr.p_offset, page_size), align_up(end, page_size))


def _read_headers(memory: PhysicalMemory, elfcorehdr: int) -> list[ProgramHeader]:
    """Read the headers with the checks of parse_crash_elf64_headers, in its order."""
    head = file_header(memory.read(elfcorehdr, EHDR.size))
    ident = head.e_ident
    wrong = [
        what
        for what, good in (
            ("no ELF magic", ident[:4] == ELFMAG),
            ("not a core file", head.e_type == ET_CORE),
            ("not of x86_64", head.e_machine == EM_X86_64),
            ("not ELFCLASS64", ident[4] == ELFCLASS64),
            ("not of version 1", ident[6] == head.e_version == EV_CURRENT),
            ("e_ehsize is not 64", head.e_ehsize == EHDR.size),
            ("e_phentsize is not 56", head.e_phentsize == PHDR.size),
            ("no program headers", head.e_phnum != 0),
        )
        if not good
    ]
    if wrong:
        raise VmcoreNotInitialized(
            f"vmcore not initialized: headers at {elfcorehdr:#x}: {wrong[0]}", elfcorehdr=elfcorehdr
        )
    table = memory.read(elfcorehdr + EHDR.size, PHDR.size * head.e_phnum)
    return [ProgramHeader(*entry) for entry in PHDR.iter_unpack(table)]


def _merge_notes(memory: PhysicalMemory, phdrs: list[ProgramHeader]) -> tuple[bytes, int]:
    """The bytes of all notes, and how many PT_NOTEs there were (merge_note_headers)."""
    notes = [phdr for phdr in phdrs if phdr.p_type == PT_NOTE]
    parts: list[bytes] = []
    for phdr in notes:
        if phdr.p_memsz > NOTE_MAX:
            raise VmcoreNotInitialized(
                f"vmcore not initialized: a note of {phdr.p_memsz:#x} bytes at {phdr.p_offset:#x}"
            )
        data = memory.read(phdr.p_offset, phdr.p_memsz)
        parts.extend(data[at:end] for at, end in note_spans(data))
    return b"".join(parts), len(notes)
