"""What kind of ELF file something is, by its first bytes. Handles any byte order, class and
machine, so that a file for another machine is not reported as having a bad header."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from pykexec.abi.elf import (
    ELFCLASS64,
    EM_386,
    EM_486,
    EM_NAMES,
    EM_X86_64,
    ET_CORE,
    ET_DYN,
    ET_EXEC,
    ET_REL,
    NT_GNU_ABI_TAG,
    PT_INTERP,
    PT_NOTE,
)
from pykexec.frozen import dataclass

ELFCLASS32, ELFDATA2MSB = 1, 2
X86 = (EM_386, EM_486, EM_X86_64)
MAX_ROWS = 64
A_KERNEL = "use a kernel file such as /boot/vmlinuz"


@dataclass(frozen=True, slots=True)
class ElfKind:
    """`bootable` for what may be a kernel for x86."""

    what: str
    hint: str
    bootable: bool = False


@dataclass(frozen=True, slots=True)
class ProgramHeaderRow:
    """One program header: type, and the bytes of the file that it refers to."""

    type: int
    offset: int
    filesz: int


def describe(head: bytes) -> ElfKind:
    """Describe a file that begins with the ELF magic; `head` may end anywhere."""
    if len(head) < 20 or head[4] not in (ELFCLASS32, ELFCLASS64):
        return ElfKind("a truncated or damaged ELF file", "copy it again")
    order = ">" if head[5] == ELFDATA2MSB else "<"
    kind, machine = struct.unpack_from(f"{order}HH", head, 16)
    name = EM_NAMES.get(machine, f"machine {machine}")
    bits = 64 if head[4] == ELFCLASS64 else 32
    whose = f"for {name}, {bits} bits{', big-endian' if order == '>' else ''}"
    if kind == ET_REL:
        what = f"an ELF object file or kernel module (.o, .ko) {whose}"
        return ElfKind(what, f"use insmod to load a module; {A_KERNEL}")
    if kind == ET_CORE:
        return ElfKind(
            f"an ELF core file (a dump) {whose}", "use pykexec vmcore info to see what is in it"
        )
    if _is_program(head, order, bits):
        return ElfKind(f"a user-space program for Linux, {whose}", A_KERNEL)
    if kind == ET_DYN and not entry(head, order, bits):
        return ElfKind(f"a shared library {whose}", A_KERNEL)
    if kind not in (ET_EXEC, ET_DYN):
        return ElfKind(f"an ELF file of type {kind} {whose}", A_KERNEL)
    if machine not in X86 or order == ">":
        return ElfKind(f"an ELF executable {whose}", "use a kernel for x86")
    return ElfKind(
        f"an ELF executable {whose}",
        "the file is damaged, or was not copied completely",
        bootable=True,
    )


def entry(head: bytes, order: str, bits: int) -> int:
    """e_entry; e_phoff is the next word."""
    size = bits // 8
    return int.from_bytes(head[24 : 24 + size], "big" if order == ">" else "little")


def _is_program(head: bytes, order: str, bits: int) -> bool:
    """Whether it names a dynamic linker, or has a note that it was linked as a Linux program."""
    for row in rows(head, order, bits):
        if row.type == PT_INTERP:
            return True
        notes = head[row.offset : row.offset + row.filesz] if row.type == PT_NOTE else b""
        if NT_GNU_ABI_TAG_HEADS[order] in notes:
            return True
    return False


NT_GNU_ABI_TAG_HEADS = {
    order: struct.pack(f"{order}III4sI", 4, 16, NT_GNU_ABI_TAG, b"GNU\0", 0) for order in "<>"
}
"""namesz, descsz, type, name, and the first word of the contents: 0 is Linux (the System V ABI's
.note.ABI-tag, as in glibc's csu/abi-note.c)."""


def rows(head: bytes, order: str, bits: int) -> Iterator[ProgramHeaderRow]:
    """The program headers, as far as they are in `head`."""
    if len(head) < (64 if bits == 64 else 52):
        return
    wide = bits == 64
    phoff = entry(head[8 if wide else 4 :], order, bits)
    size, count = struct.unpack_from(f"{order}HH", head, 54 if wide else 42)
    layout = order + ("IIQQQQ" if wide else "IIIII")
    for n in range(min(count, MAX_ROWS)):
        at = phoff + n * size
        if at + struct.calcsize(layout) > len(head):
            return
        fields = struct.unpack_from(layout, head, at)
        yield ProgramHeaderRow(fields[0], fields[2 if wide else 1], fields[-1])
