"""A dump as a file: headers and notes of an ELF core, each checked against the file's size before
it is read. Uses struct instead of pyelftools because a dump can have 65,535 program headers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property

from pykexec.abi.elf import (
    EHDR,
    ELFMAG,
    ET_CORE,
    NT_PRSTATUS,
    PHDR,
    PR_PID_OFFSET,
    PR_REG_OFFSET,
    PT_LOAD,
    PT_NOTE,
    file_header,
)
from pykexec.crash.elfcorehdr import ProgramHeader
from pykexec.crash.notes import CORE, VMCOREINFO, Note, parse_notes, vmcoreinfo_values
from pykexec.dump.architecture import X86_64, registers_of, text_start
from pykexec.dump.elf_memory import core_architecture
from pykexec.dump.faults import DamagedDump
from pykexec.dump.file import DumpFile
from pykexec.dump.vmcore import NOTE_MAX
from pykexec.errors import NotSupported
from pykexec.images.contents import OpenFile

FORMATS = {
    b"KDUMP   ": "a kdump-compressed file",
    b"DISKDUMP": "a diskdump file",
    b"makedump": "a flattened makedumpfile stream",
}


@dataclass(frozen=True, slots=True)
class CpuState:
    """One NT_PRSTATUS: the process that a CPU was running (0 for idle), and where."""

    pid: int
    ip: int


@dataclass(frozen=True)
class CoreFile:
    """Headers in file order; they are not checked against each other."""

    file: DumpFile
    headers: tuple[ProgramHeader, ...]
    notes: tuple[Note, ...]
    headers_size: int = 0
    """Bytes from the start of the file up to the end of its program headers."""
    architecture: str = X86_64
    """As uname -m prints it."""

    @property
    def size(self) -> int:
        """Size of the file in bytes."""
        return self.file.size

    @property
    def loads(self) -> tuple[ProgramHeader, ...]:
        """The PT_LOADs that list memory (p_memsz) or have bytes in the file (p_filesz)."""
        loads = (item for item in self.headers if item.p_type == PT_LOAD)
        return tuple(item for item in loads if item.p_memsz or item.p_filesz)

    @cached_property
    def cpus(self) -> tuple[CpuState, ...]:
        """The state of each CPU that has a note. The notes are in the order of the CPUs, but a CPU
        that was offline or did not stop has none (fs/proc/vmcore.c:
        update_note_header_size_elf64)."""
        layout = registers_of(self.architecture)
        ip = PR_REG_OFFSET + layout.names.index(layout.ip) * 8
        return tuple(
            CpuState(
                int.from_bytes(note.desc[PR_PID_OFFSET : PR_PID_OFFSET + 4], "little"),
                int.from_bytes(note.desc[ip : ip + 8], "little"),
            )
            for note in self.notes
            if note.name == CORE
            and note.type == NT_PRSTATUS
            and len(note.desc) >= PR_REG_OFFSET + layout.size
        )

    @cached_property
    def text_start(self) -> int:
        """The virtual address from which on PT_LOADs show the kernel's image, not the direct
        map."""
        return text_start(self.architecture, self.vmcoreinfo or {})

    @cached_property
    def vmcoreinfo(self) -> dict[str, str] | None:
        """The keys of VMCOREINFO; None if there is no such note."""
        for note in self.notes:
            if note.name == VMCOREINFO:
                return vmcoreinfo_values(note.desc)
        return None


def is_core(path: str | os.PathLike[str]) -> bool:
    """Whether the header of a file claims an ELF core. Raises UnreadableFile."""
    file = OpenFile(path)
    if file.size < EHDR.size:
        return False
    head = file_header(file.read(0, EHDR.size))
    return bool(head.e_ident[:4] == ELFMAG and head.e_type == ET_CORE)


def open_core(path: str | os.PathLike[str]) -> CoreFile:
    """Open an ELF core, and check its headers. Raises UnreadableDump, NotADump, DamagedDump, or
    NotSupported for another dump format."""
    file = DumpFile(os.fspath(path))
    raw = file.read(0, EHDR.size)
    for magic, what in FORMATS.items():
        if raw.startswith(magic):
            raise NotSupported(
                f"{path}: {what}, but only ELF dumps are supported here",
                hint="makedumpfile -E writes one; crash and drgn read the others",
            )
    architecture = core_architecture(file.name, raw)
    head = file_header(raw)
    phoff, phnum = head.e_phoff, head.e_phnum
    if phoff + phnum * PHDR.size > file.size:
        raise DamagedDump(
            f"{path}: cut off: {phnum} program headers at {phoff:#x}, the file ends at "
            f"{file.size:#x}"
        )
    table = file.read(phoff, phnum * PHDR.size)
    headers = tuple(ProgramHeader(*entry) for entry in PHDR.iter_unpack(table))
    return CoreFile(
        file, headers, _read_notes(path, file, headers), phoff + len(table), architecture
    )


def _read_notes(
    path: str | os.PathLike[str], file: DumpFile, headers: tuple[ProgramHeader, ...]
) -> tuple[Note, ...]:
    """All notes of all PT_NOTEs."""
    notes: list[Note] = []
    room = NOTE_MAX
    for item in headers:
        if item.p_type != PT_NOTE:
            continue
        if item.p_offset + item.p_filesz > file.size:
            raise DamagedDump(
                f"{path}: cut off: a PT_NOTE ends at {item.p_offset + item.p_filesz:#x}, the file "
                f"at {file.size:#x}",
            )
        room -= item.p_filesz
        if room < 0:
            raise DamagedDump(f"{path}: more than {NOTE_MAX:#x} bytes of notes")
        notes += parse_notes(file.read(item.p_offset, item.p_filesz))
    return tuple(notes)
