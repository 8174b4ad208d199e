"""QEMU's dump with the program headers of /proc/vmcore: tools for a capture kernel need virtual
addresses in them (kexec-tools: crashdump-elf.c)."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from pykexec.abi.elf import EHDR, EI_IDENT, EM_X86_64, ET_CORE, PHDR, PT_LOAD, PT_NOTE
from pykexec.dump.reader import open_dump

EM_AARCH64 = 183
BITS = (1 << 64) - 1
TEXT, TEXT_SIZE = 0xFFFFFFFF80000000, 64 << 20
ALIGN = 4096


def vmcore_of(source: Path, target: Path, symbols: dict[str, int]) -> Path:
    """Uses the addresses that the guest itself reported (/proc/kallsyms)."""
    dump = open_dump(str(source))
    info, text = dump.info, symbols["_stext"]
    if dump.architecture == "aarch64":
        # memstart_addr is PHYS_OFFSET, and the direct map is the lower half of kernel addresses.
        page_offset = -(1 << info.number("VA_BITS")) - info.number("PHYS_OFFSET")
        start, machine = text - info.number("kimage_voffset"), EM_AARCH64
    else:
        page_offset = dump.kernel.u64(symbols["page_offset_base"])
        start, machine = text - TEXT + info.number("phys_base"), EM_X86_64
    return as_vmcore(source, target, page_offset, (text, start), machine)


def as_vmcore(
    source: Path, target: Path, page_offset: int, text: tuple[int, int], machine: int = EM_X86_64
) -> Path:
    """`page_offset` is what virtual addresses of the direct map are above physical ones (mod 2^64),
    `text` the virtual and the physical address of _stext. Memory is the same, byte for byte."""
    with source.open("rb") as file:
        fields = EHDR.unpack(file.read(EHDR.size))
        file.seek(fields[5])
        headers = [PHDR.unpack(file.read(PHDR.size)) for _ in range(fields[10])]
        notes = [header for header in headers if header[0] == PT_NOTE]
        loads = [header for header in headers if header[0] == PT_LOAD]
        note = b""
        for _, _, offset, _, _, size, _, _ in notes:
            file.seek(offset)
            note += file.read(size)
        count = 2 + len(loads)
        note_at = EHDR.size + PHDR.size * count
        table = [PHDR.pack(PT_NOTE, 0, note_at, 0, 0, len(note), len(note), 0)]
        at = -(-(note_at + len(note)) // ALIGN) * ALIGN
        places = []
        for _, _, offset, _, paddr, size, _, _ in loads:
            places.append((offset, at, size))
            table.append(
                PHDR.pack(PT_LOAD, 7, at, page_offset + paddr & BITS, paddr, size, size, 0)
            )
            at += size
        where = places[0][1] + text[1] - loads[0][4]
        table.insert(1, PHDR.pack(PT_LOAD, 7, where, *text, TEXT_SIZE, TEXT_SIZE, 0))
        head = EHDR.pack(
            EI_IDENT, ET_CORE, machine, 1, 0, EHDR.size, 0, 0, EHDR.size, PHDR.size, count,
            0, 0, 0,
        )  # fmt: skip
        with target.open("wb") as out:
            out.write(head + b"".join(table) + note)
            for offset, place, size in places:
                file.seek(offset)
                out.seek(place)
                copy(file, out, size)
    return target


def copy(source: BinaryIO, target: BinaryIO, size: int) -> None:
    """Copy `size` bytes."""
    while size:
        data = source.read(min(size, 1 << 20))
        target.write(data)
        size -= len(data)
