"""An ELF file as read by pyelftools, in one frozen value.

pyelftools trusts headers, and raises various exceptions for bad ones. So the bounds of every table
are checked before it starts, and anything it raises becomes one refusal here.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Iterator
from typing import Any

from pykexec.abi.elf import ELFDATA2LSB, ELFMAG, NHDR, PT_INTERP, PT_LOAD, PT_NOTE
from pykexec.frozen import dataclass
from pykexec.images.contents import OpenFile, UnreadableFile
from pykexec.images.kernel_image import Refused

EHDR_SIZES = {1: (52, 32, 40), 2: (64, 56, 64)}
"""EI_CLASS: bytes of the file header, a program header and a section header."""
MAX_SEGMENTS = 256
"""No kernel has more than a dozen."""
MAX_SECTIONS = 4096
MAX_NOTES = 1 << 20
"""Bytes of notes to read."""
MAX_NAMES = 1 << 20
"""Bytes of section names."""
NAME_MAX = 64
SHN_XINDEX = 0xFFFF
"""The value of e_shstrndx that refers to section 0."""


@dataclass(frozen=True, slots=True)
class ElfSegment:
    """One program header."""

    type: int
    offset: int
    vaddr: int
    paddr: int
    filesz: int
    memsz: int


@dataclass(frozen=True, slots=True)
class ElfNote:
    """One note: owner without its NUL, type (n_type), and descriptor."""

    owner: str
    type: int
    desc: bytes


@dataclass(frozen=True, slots=True)
class ElfFile:
    """Headers, notes and section names; they are not checked against each other."""

    bits: int
    type: int
    machine: int
    entry: int
    segments: tuple[ElfSegment, ...]
    notes: tuple[ElfNote, ...]
    sections: frozenset[str]

    @property
    def loads(self) -> tuple[ElfSegment, ...]:
        """The PT_LOADs with memory, by physical address."""
        found = (item for item in self.segments if item.type == PT_LOAD and item.memsz)
        return tuple(sorted(found, key=lambda item: (item.paddr, item.memsz)))


class Stream(io.RawIOBase):
    """An open file with the interface that pyelftools needs."""

    def __init__(self, file: OpenFile) -> None:
        self.file, self.at = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.file.size}[whence]
        if base + offset < 0:
            raise ValueError("before the start of the file")
        self.at = base + offset
        return self.at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = max(0, min(len(buffer), self.file.size - self.at))
        self.file.read_into(buffer[:count], self.at)
        self.at += count
        return count


def read_elf(file: OpenFile) -> ElfFile | Refused:
    """The headers of a little-endian ELF file, or why they cannot be read."""
    if file.size < 20 or file.read(0, 4) != ELFMAG:
        return Refused("no ELF magic")
    if why := _out_of_bounds(file):
        return Refused(why, close=True)
    from elftools.common.exceptions import ELFError
    from elftools.construct import ConstructError

    faults = (ELFError, ConstructError, *FAULTS)
    try:
        return parsed(file)
    except faults as error:
        why = str(error) or type(error).__name__
        return Refused(f"its ELF headers cannot be read: {why}", close=True)


FAULTS = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError),
    *(NotImplementedError, OSError, RecursionError, TypeError, ValueError, struct.error),
    UnreadableFile,
)
"""Exceptions that pyelftools is known to raise on damaged files, besides its own."""


def _out_of_bounds(file: OpenFile) -> str | None:
    """Which table of the file header is not inside the file, or implausibly long."""
    ident = file.read(0, 16 if file.size >= 16 else 0)
    bits, order = ident[4], ident[5]
    if bits not in EHDR_SIZES:
        return f"EI_CLASS {bits}, expected 1 or 2"
    if order != ELFDATA2LSB:
        return f"EI_DATA {order}: not little-endian"
    ehdr, phdr, shdr = EHDR_SIZES[bits]
    if file.size < ehdr:
        return f"truncated: {file.size:#x} bytes, the ELF header has {ehdr:#x}"
    layout = "<IIIIHHHHHH" if bits == 1 else "<QQQIHHHHHH"
    fields = struct.unpack_from(layout, file.read(24, ehdr - 24))
    phoff, shoff, phentsize, phnum, shentsize, shnum, shstrndx = (*fields[1:3], *fields[5:])
    if not phnum:
        return "it has no program headers: an object file?"
    if phentsize != phdr:
        return f"e_phentsize {phentsize}, expected {phdr}"
    if phnum > MAX_SEGMENTS:
        return f"{phnum} program headers; a kernel has at most {MAX_SEGMENTS}"
    if phoff + phnum * phdr > file.size:
        return f"truncated: {phnum} program headers at {phoff:#x}, the file ends at {file.size:#x}"
    if shoff and (shentsize != shdr or not shnum or shnum > MAX_SECTIONS):
        return f"{shnum} section headers of {shentsize} bytes"
    if shoff + shnum * shdr > file.size:
        return f"truncated: {shnum} section headers at {shoff:#x}, the file ends at {file.size:#x}"
    if shoff and shstrndx >= shnum and shstrndx != SHN_XINDEX:
        return f"e_shstrndx {shstrndx} of {shnum} sections"
    return None


def parsed(file: OpenFile) -> ElfFile:
    """Headers by pyelftools' declarations; only tables whose bounds were checked are read."""
    from elftools.elf.elffile import ELFFile

    elf = ELFFile(io.BufferedReader(Stream(file)))
    header, phdr, shdr = elf.header, elf.structs.Elf_Phdr, elf.structs.Elf_Shdr
    segments = tuple(
        ElfSegment(
            type=_number_of(item["p_type"], PT_NUMBERS),
            offset=item["p_offset"],
            vaddr=item["p_vaddr"],
            paddr=item["p_paddr"],
            filesz=item["p_filesz"],
            memsz=item["p_memsz"],
        )
        for item in rows(file, phdr, header["e_phoff"], header["e_phnum"])
    )
    return ElfFile(
        bits=elf.elfclass,
        type=_number_of(header["e_type"], ET_NUMBERS),
        machine=int.from_bytes(file.read(18, 2), "little"),
        entry=header["e_entry"],
        segments=segments,
        notes=tuple(_notes_of(file, segments)),
        sections=_section_names(
            file, list(rows(file, shdr, header["e_shoff"], header["e_shnum"])), header["e_shstrndx"]
        ),
    )


PT_NUMBERS = {"PT_LOAD": PT_LOAD, "PT_NOTE": PT_NOTE, "PT_INTERP": PT_INTERP}
ET_NUMBERS = {"ET_REL": 1, "ET_EXEC": 2, "ET_DYN": 3, "ET_CORE": 4}


def _number_of(name: str | int, known: dict[str, int]) -> int:
    """The number of a value that pyelftools may have turned into a name; -1 for a name that does
    not matter here."""
    return name if isinstance(name, int) else known.get(name, -1)


def rows(file: OpenFile, layout: Any, offset: int, count: int) -> Iterator[Any]:
    """The records of a table that is inside the file."""
    size = layout.sizeof()
    raw = file.read(offset, count * size) if count else b""
    for at in range(0, len(raw), size):
        yield layout.parse(raw[at : at + size])


def _notes_of(file: OpenFile, segments: Iterable[ElfSegment]) -> Iterator[ElfNote]:
    """The notes of every PT_NOTE that is inside the file; a truncated note ends its segment."""
    left = MAX_NOTES
    for item in segments:
        if item.type != PT_NOTE or item.filesz > min(left, file.size - item.offset):
            continue
        left -= item.filesz
        raw, at = file.read(item.offset, item.filesz), 0
        while at + NHDR.size <= len(raw):
            namesz, descsz, kind = NHDR.unpack_from(raw, at)
            name_at = at + NHDR.size
            desc_at = name_at + (namesz + 3 & ~3)
            at = desc_at + (descsz + 3 & ~3)
            if desc_at + descsz > len(raw):
                break
            owner = raw[name_at : name_at + namesz].rstrip(b"\0").decode("ascii", "replace")
            yield ElfNote(owner, kind, raw[desc_at : desc_at + descsz])


def _section_names(file: OpenFile, headers: list[Any], index: int) -> frozenset[str]:
    """Empty if the file has no section headers, or they are damaged."""
    if index >= len(headers):
        return frozenset()
    offset, size = headers[index]["sh_offset"], headers[index]["sh_size"]
    if size > MAX_NAMES or offset + size > file.size:
        return frozenset()
    names = file.read(offset, size)
    found = (names[item["sh_name"] : item["sh_name"] + NAME_MAX] for item in headers)
    return frozenset(name.split(b"\0")[0].decode("ascii", "replace") for name in found)
