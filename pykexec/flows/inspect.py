"""What a file is and what it requires: a kernel image, an initrd, a zero page, the headers of a
dump, or a dump; and the vmlinux inside a bzImage.

Named so since `inspect` is a module of Python's own.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pykexec.abi.elf import (
    EHDR,
    ELFCLASS64,
    ELFDATA2LSB,
    EM_X86_64,
    ET_CORE,
    PHDR,
    PT_LOAD,
    PT_NOTE,
    file_header,
)
from pykexec.crash.elfcorehdr import ProgramHeader
from pykexec.dump.core_file import CoreFile, is_core, open_core
from pykexec.images.contents import OpenFile, UnreadableFile, write_new
from pykexec.images.identify import identify
from pykexec.images.initrd import Initrd, looks_like_initrd, read_initrd
from pykexec.images.kernel_image import KernelImage
from pykexec.images.x86.packed_vmlinux import packed_vmlinux
from pykexec.images.x86.zero_page import ZERO_PAGE_SIZE, ZeroPage, is_zero_page, zero_page
from pykexec.memory.ranges import PhysRange

MAX_CORE_HEADERS = 16 << 20
"""65,535 program headers and their notes have 4 MiB; a larger file is a truncated dump."""


@dataclass(frozen=True, slots=True)
class OldRange:
    """`size` bytes of the first kernel: their original address, and the address they are read
    from."""

    paddr: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class CoreHeaders:
    """ELF core headers without the memory that they describe, as elfcorehdr= points to."""

    program_headers: int
    notes: tuple[PhysRange, ...]
    loads: tuple[OldRange, ...]
    moved: int
    """Bytes that are not at their original address: backup pages."""
    overlaps: int
    """PT_LOADs that overlap another one, such as that of the kernel's text."""

    @property
    def memory(self) -> int:
        return sum(item.size for item in self.loads)


Found = KernelImage | Initrd | ZeroPage | CoreHeaders | CoreFile


def inspect_file(
    path: str | os.PathLike[str], image_type: str | None = None, profile: int | None = None
) -> Found:
    """Raises KexecError: UnreadableFile, or the fault of a damaged file."""
    if image_type is not None or profile is not None:
        return identify(path, image_type, profile)
    file = OpenFile(path)
    if is_zero_page(file):
        return zero_page(file.read(0, ZERO_PAGE_SIZE))
    if is_core(path):
        headers = _read_core_headers(file)
        return headers or open_core(path)
    if looks_like_initrd(file):
        return read_initrd(file)
    return identify(path)


def _read_core_headers(file: OpenFile) -> CoreHeaders | None:
    """None if the file contains some of the memory, and so is a dump."""
    head = file_header(file.read(0, EHDR.size))
    ident, phoff, count = head.e_ident, head.e_phoff, head.e_phnum
    kind = (ident[4], ident[5], head.e_type, head.e_machine)
    if kind != (ELFCLASS64, ELFDATA2LSB, ET_CORE, EM_X86_64):
        return None
    if not count or phoff + count * PHDR.size > file.size:
        return None
    table = PHDR.iter_unpack(file.read(phoff, count * PHDR.size))
    rows = [row for row in (ProgramHeader(*entry) for entry in table) if row.p_filesz]
    loads = [(row.p_paddr, row.p_offset, row.p_filesz) for row in rows if row.p_type == PT_LOAD]
    inside = any(offset + size <= file.size for _, offset, size in loads)
    if not loads or inside or file.size > MAX_CORE_HEADERS:
        return None
    notes = [(row.p_offset, row.p_filesz) for row in rows if row.p_type == PT_NOTE]
    return CoreHeaders(
        program_headers=count,
        notes=tuple(PhysRange.sized(addr, size) for addr, size in notes if addr + size <= 1 << 64),
        loads=tuple(OldRange(*row) for row in loads),
        moved=sum(size for paddr, offset, size in loads if paddr != offset),
        overlaps=_overlapping(loads),
    )


def _overlapping(loads: list[tuple[int, int, int]]) -> int:
    """The number of PT_LOADs that start before an earlier one ends, by original address."""
    end = count = 0
    for paddr, _, size in sorted(loads):
        count += paddr < end
        end = max(end, paddr + size)
    return count


def extract_vmlinux(
    path: str | os.PathLike[str],
    out: Path,
    image_type: str | None = None,
    profile: int | None = None,
) -> KernelImage:
    """Write the ELF file inside a bzImage (or another container) to a new file.

    Returns the image that contained it. Raises NoVmlinux, BadCompression, MissingCodec, or
    UnreadableFile if `out` exists or cannot be written.
    """
    image = identify(path, image_type, profile)
    file = packed_vmlinux(image)
    try:
        write_new(out, file.span(0, file.size).chunks())
    except OSError as error:
        raise UnreadableFile(f"{out}: cannot be written: {error.strerror}") from error
    return image
