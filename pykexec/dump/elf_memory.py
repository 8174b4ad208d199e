"""Physical memory in an ELF core: /proc/vmcore, its copies, makedumpfile -E and QEMU."""

from __future__ import annotations

from pykexec.dump.architecture import MACHINES
from pykexec.dump.faults import DamagedDump, NotADump, NotInDump

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pykexec.dump.file import Bytes

EHDR_SIZE, PHDR_SIZE, NHDR_SIZE = 64, 56, 12
TYPE, MACHINE, PHOFF, SHOFF, PHENTSIZE, PHNUM = 16, 18, 32, 40, 54, 56
"""Offsets in an ELF header. There is neither struct nor bisect in this module: their import takes
as long as reading a log."""
MAGIC = b"\x7fELF"
ET_CORE, PT_LOAD, PT_NOTE, PN_XNUM = 4, 1, 4, 0xFFFF
SHDR_SIZE, SH_INFO = 64, 44
HEADERS_MAX = 1 << 17
"""/proc/vmcore has at most 65,535; what makedumpfile -E writes may have more."""
NOTES_MAX = 16 << 20
"""Limit for the bytes of all PT_NOTEs: a CPU has less than a KiB."""
NOTES_COUNT_MAX = 1 << 16
"""Limit for the number of notes, empty ones included: a CPU has two."""
ADDRESSES = 1 << 52
CHUNK = 128 << 10
"""Bytes to search at a time: larger ones would be mapped and unmapped by each read."""

Span = tuple[int, int, int, int]
"""Start, end, end of what the file has, file offset."""


class ElfMemory:
    """PT_LOADs by physical address. Bytes past p_filesz read as zeros: makedumpfile -E omits pages
    of zeros that way (and the pages it filters, which nothing here asks for)."""

    format = "ELF core"
    level: int | None = None
    incomplete = False
    """This format records neither makedumpfile's dump level nor that the disk was full."""

    def __init__(self, file: Bytes) -> None:
        self.file = file
        self.machine, headers = program_headers(file)
        """The architecture, as uname -m prints it."""
        self.spans = _disjoint(headers)
        """Sorted, without overlap."""
        self.last: Span = (0, 0, 0, 0)
        """The one that was read last."""
        self.notes = b"".join(_note_segments(file, headers))
        self.vmcoreinfo: bytes | None = None
        """Only in a note: nowhere else in this format."""

    @property
    def work(self) -> int:
        return self.file.work

    @property
    def size(self) -> int:
        """Bytes of memory that the headers declare."""
        return sum(end - start for start, end, _, _ in self.spans)

    def span(self, addr: int) -> Span:
        """The PT_LOAD that holds an address. Raises NotInDump."""
        low, high = 0, len(self.spans)
        while low < high:
            middle = (low + high) // 2
            if self.spans[middle][0] <= addr:
                low = middle + 1
            else:
                high = middle
        if not low or addr >= self.spans[low - 1][1]:
            raise NotInDump(f"physical address {addr:#x} is in no PT_LOAD")
        return self.spans[low - 1]

    def read(self, addr: int, size: int) -> bytes:
        """Bytes by physical address. Raises NotInDump and UnreadableDump."""
        start, _, filled, offset = self.last
        if start <= addr and addr + size <= filled:
            data = self.file.read(offset + addr - start, size)
            if len(data) == size:
                return data
        return self.read_pieces(addr, size)

    def read_pieces(self, addr: int, size: int) -> bytes:
        """The same from another PT_LOAD, across the ends of them, and with omitted pages."""
        parts, end = [], addr + size
        while addr < end:
            start, last, filled, offset = self.last = self.span(addr)
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
        """Physical addresses of `needle`, in order; reads the file up to it, and not more in all
        than its size: in a damaged one, many PT_LOADs may share their bytes."""
        left = self.file.size
        for start, _, filled, offset in self.spans:
            at, tail = start, b""
            while at < filled:
                data = self.file.read(offset + at - start, min(CHUNK, filled - at, left))
                left -= len(data)
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


Header = tuple[int, int, int, int, int, int]
"""p_type, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz."""


def number(raw: bytes, at: int, size: int) -> int:
    """A member of a structure."""
    return int.from_bytes(raw[at : at + size], "little")


def core_architecture(name: str, head: bytes) -> str:
    """The architecture of an ELF core, as uname -m prints it, from the first bytes of a file.
    Raises NotADump, with the file's `name`."""
    if not head.startswith(MAGIC):
        what = f"it starts with {ascii(head[:8])[1:]}" if head else "it is empty"
        raise NotADump(f"{name}: not a dump: {what}")
    if len(head) < EHDR_SIZE:
        raise NotADump(f"{name}: {len(head)} bytes, an ELF header has {EHDR_SIZE}")
    kind, machine, entry = (number(head, at, 2) for at in (TYPE, MACHINE, PHENTSIZE))
    expected = (
        (head[4] == 2 and head[5] == 1, "not a 64-bit little-endian ELF file"),
        (kind == ET_CORE, f"e_type is {kind}, but a core has {ET_CORE}"),
        (machine in MACHINES, f"e_machine is {machine}, which is not supported"),
        (entry == PHDR_SIZE, f"e_phentsize is {entry}, not {PHDR_SIZE}"),
        (number(head, PHNUM, 2), "there are no program headers"),
    )
    for good, why in expected:
        if not good:
            raise NotADump(f"{name}: not an ELF core of x86_64 or arm64: {why}")
    return MACHINES[machine]


def program_headers(file: Bytes) -> tuple[str, list[Header]]:
    """The architecture, and the PT_LOADs and PT_NOTEs; only their number is checked. Raises
    NotADump, DamagedDump."""
    head = file.read(0, EHDR_SIZE)
    machine = core_architecture(file.name, head)
    count, shoff = number(head, PHNUM, 2), number(head, SHOFF, 8)
    if count == PN_XNUM and shoff:
        section = file.read(shoff, SHDR_SIZE)
        if len(section) == SHDR_SIZE:
            count = number(section, SH_INFO, 4)
    if count > HEADERS_MAX:
        raise DamagedDump(f"{file.name}: {count} program headers")
    table = file.read(number(head, PHOFF, 8), count * PHDR_SIZE)
    if len(table) < count * PHDR_SIZE:
        raise DamagedDump(f"{file.name}: the file ends before its {count} program headers do")
    return machine, list(_headers(table))


def _headers(table: bytes) -> Iterator[Header]:
    members = memoryview(table).cast("Q")
    for at in range(0, len(members), PHDR_SIZE // 8):
        kind = members[at] & 0xFFFFFFFF
        if kind in (PT_LOAD, PT_NOTE):
            offset, vaddr, paddr, filesz, memsz = members[at + 1 : at + 6]
            yield kind, offset, vaddr, paddr, filesz, memsz


def _disjoint(headers: list[Header]) -> list[Span]:
    """The PT_LOADs as spans. If two cover an address, the first one counts: the kernel's text is in
    /proc/vmcore twice, with the same bytes."""
    loads = sorted(
        (paddr, paddr + memsz, paddr + min(filesz, memsz), offset)
        for kind, offset, _, paddr, filesz, memsz in headers
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
    for kind, offset, _, _, filesz, _ in headers:
        if kind == PT_NOTE and room > 0:
            data = file.read(offset, min(filesz, room))
            room -= len(data)
            yield data[: len(data) // 4 * 4]


def parse_notes(data: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """(name, type, descriptor) of each note; stops at one that overruns. An empty header, as at the
    end of a CPU's area, is skipped."""
    at, left = 0, NOTES_COUNT_MAX
    while left and at + NHDR_SIZE <= len(data):
        left -= 1
        namesz, descsz, kind = (number(data, at + n, 4) for n in (0, 4, 8))
        start = at + NHDR_SIZE
        desc = start + (namesz + 3 & ~3)
        at = desc + (descsz + 3 & ~3)
        if at > len(data):
            return
        if namesz:
            yield data[start : start + namesz].rstrip(b"\0"), kind, data[desc : desc + descsz]
