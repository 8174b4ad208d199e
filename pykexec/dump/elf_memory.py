"""Physical memory in an ELF core: /proc/vmcore, its copies, makedumpfile -E and QEMU."""

from __future__ import annotations

import struct
from bisect import bisect_right

from pykexec.dump.faults import DamagedDump, NotADump, NotInDump

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pykexec.dump.file import Bytes

EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
PHDR = struct.Struct("<IIQQQQQQ")
NHDR = struct.Struct("<III")
MAGIC = b"\x7fELF"
ET_CORE, EM_X86_64, PT_LOAD, PT_NOTE, PN_XNUM = 4, 62, 1, 4, 0xFFFF
SHDR_SIZE, SH_INFO = 64, 44
HEADERS_MAX = 1 << 20
NOTES_MAX = 16 << 20
"""Limit for the bytes of all PT_NOTEs: a CPU has less than a KiB."""
ADDRESSES = 1 << 52
CHUNK = 4 << 20


class ElfMemory:
    """PT_LOADs by physical address. Bytes past p_filesz read as zeros: makedumpfile -E omits pages
    of zeros that way (and the pages it filters, which nothing here asks for)."""

    format = "ELF core"

    def __init__(self, file: Bytes) -> None:
        self.file = file
        headers = program_headers(file)
        self.spans = _disjoint(headers)
        """(start, end, end of what the file has, file offset), sorted, without overlap."""
        self.starts = [span[0] for span in self.spans]
        self.notes = b"".join(_note_segments(file, headers))
        self.vmcoreinfo: bytes | None = None
        """Only in a note: nowhere else in this format."""

    @property
    def size(self) -> int:
        """Bytes of memory that the headers declare."""
        return sum(end - start for start, end, _, _ in self.spans)

    def read(self, addr: int, size: int) -> bytes:
        """Bytes by physical address. Raises NotInDump and UnreadableDump."""
        number = bisect_right(self.starts, addr) - 1
        if number >= 0:
            start, _, filled, offset = self.spans[number]
            if addr + size <= filled:
                data = self.file.read(offset + addr - start, size)
                if len(data) == size:
                    return data
        return self.read_pieces(addr, size)

    def read_pieces(self, addr: int, size: int) -> bytes:
        """The same across the ends of PT_LOADs, and with omitted pages."""
        parts, end = [], addr + size
        while addr < end:
            number = bisect_right(self.starts, addr) - 1
            if number < 0 or addr >= self.spans[number][1]:
                raise NotInDump(f"physical address {addr:#x} is in no PT_LOAD")
            start, last, filled, offset = self.spans[number]
            count = min(end, filled if addr < filled else last) - addr
            if addr < filled:
                data = self.file.read(offset + addr - start, count)
                if len(data) < count:
                    raise NotInDump(
                        f"physical address {addr:#x} is past the end of the file",
                        hint="the dump is cut off: copy it again",
                    )
            else:
                data = bytes(count)
            parts.append(data)
            addr += count
        return b"".join(parts)

    def find(self, needle: bytes) -> Iterator[int]:
        """Physical addresses of `needle`, in order; reads the whole file up to it."""
        for start, _, filled, offset in self.spans:
            at, tail = start, b""
            while at < filled:
                data = self.file.read(offset + at - start, min(CHUNK, filled - at))
                if not data:
                    break
                chunk = tail + data
                base = at - len(tail)
                where = chunk.find(needle)
                while where >= 0:
                    yield base + where
                    where = chunk.find(needle, where + 1)
                at += len(data)
                tail = chunk[-len(needle) + 1 :]


Header = tuple[int, int, int, int, int, int, int, int]


def program_headers(file: Bytes) -> list[Header]:
    """All of them; only their number is checked. Raises NotADump, DamagedDump."""
    head = file.read(0, EHDR.size)
    if len(head) < EHDR.size:
        raise NotADump(f"{file.name}: {file.size} bytes, an ELF header has {EHDR.size}")
    ident, kind, machine, _, _, phoff, shoff, _, _, entry, count = EHDR.unpack(head)[:11]
    expected = (
        (ident[:4] == MAGIC, "no ELF magic"),
        (ident[4] == 2 and ident[5] == 1, "not a 64-bit little-endian ELF file"),
        (kind == ET_CORE, f"e_type is {kind}, but a core has {ET_CORE}"),
        (machine == EM_X86_64, f"e_machine is {machine}, but x86_64 has {EM_X86_64}"),
        (entry == PHDR.size, f"e_phentsize is {entry}, not {PHDR.size}"),
    )
    for good, why in expected:
        if not good:
            raise NotADump(f"{file.name}: not an ELF core of x86_64: {why}")
    if count == PN_XNUM and shoff:
        section = file.read(shoff, SHDR_SIZE)
        if len(section) == SHDR_SIZE:
            count = int.from_bytes(section[SH_INFO : SH_INFO + 4], "little")
    if count > HEADERS_MAX:
        raise DamagedDump(f"{file.name}: {count} program headers")
    table = file.read(phoff, count * PHDR.size)
    if not count or len(table) < count * PHDR.size:
        raise DamagedDump(f"{file.name}: the file ends before its {count} program headers do")
    return [entry for entry in PHDR.iter_unpack(table) if entry[0] in (PT_LOAD, PT_NOTE)]


def _disjoint(headers: list[Header]) -> list[tuple[int, int, int, int]]:
    """The PT_LOADs as spans. If two cover an address, the first one counts: the kernel's text is in
    /proc/vmcore twice, with the same bytes."""
    loads = sorted(
        (paddr, paddr + memsz, paddr + min(filesz, memsz), offset)
        for kind, _, offset, _, paddr, filesz, memsz, _ in headers
        if kind == PT_LOAD and memsz and paddr + memsz <= ADDRESSES
    )
    spans, done = [], 0
    for start, end, filled, offset in loads:
        first = max(start, done)
        if first < end:
            spans.append((first, end, max(filled, first), offset + first - start))
            done = end
    return spans


def _note_segments(file: Bytes, headers: list[Header]) -> Iterator[bytes]:
    """The bytes of each PT_NOTE, as far as the file has them."""
    room = NOTES_MAX
    for kind, _, offset, _, _, filesz, _, _ in headers:
        if kind == PT_NOTE and room > 0:
            data = file.read(offset, min(filesz, room))
            room -= len(data)
            yield data[: len(data) // 4 * 4]


def parse_notes(data: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """(name, type, descriptor) of each note; stops at one that overruns. An empty header, as at the
    end of a CPU's area, is skipped."""
    at = 0
    while at + NHDR.size <= len(data):
        namesz, descsz, kind = NHDR.unpack_from(data, at)
        start = at + NHDR.size
        desc = start + (namesz + 3 & ~3)
        at = desc + (descsz + 3 & ~3)
        if at > len(data):
            return
        if namesz:
            yield data[start : start + namesz].rstrip(b"\0"), kind, data[desc : desc + descsz]
