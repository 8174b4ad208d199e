"""Physical memory in a kdump-compressed file: makedumpfile with -c, -l, -p, -z or none of them, and
what QEMU writes as kdump-zlib (makedumpfile's IMPLEMENTATION, diskdump_mod.h).

A header in the first block, then a sub-header, two bitmaps (RAM, and pages that are in the file),
and one descriptor for each page of the second bitmap, in order.
"""

from __future__ import annotations

import struct
import time
from array import array

from pykexec.abi.kdump import disk_dump_header, kdump_sub_header
from pykexec.dump.faults import DamagedDump, NotInDump, UnknownKernel
from pykexec.dump.page_codecs import CODECS, COST_BYTES, COSTS, unpack_page
from pykexec.dump.watch import Watch, unwatched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pykexec.dump.file import Bytes

PAGE = struct.Struct("<QII8x")
"""struct page_desc: offset, size, flags, page_flags. There is one for each page, so they are read
with struct, which takes a tenth of construct's time."""
INCOMPLETE = 8
"""In status: makedumpfile did not have space for all pages."""
BLOCKS = (4096, 8192, 16384, 32768, 65536)
PAGES_MAX = 1 << 40
RANK_BYTES, COUNT_BYTES = 4096, 64 << 10
"""Bytes of the bitmap for which there is one sum, and that are read at a time for it."""
PART_BYTES = 1 << 10
NO_BITS = bytes(PART_BYTES)
BATCH = 4096
"""Descriptors that are read at a time."""
CHECKED_MAX = 1 << 25
"""Descriptors that are checked: those of 128 GiB. Of more than that every second batch is checked,
or every third, and so on."""
MAPS_KEPT = 64
PAGES_KEPT = 512
NOTES_MAX = 16 << 20
INFO_MAX = 1 << 20
SCAN_SECONDS, SCAN_SECONDS_MAX, SCAN_BYTES = 3, 30, 4 << 30
"""Limit of the search for VMCOREINFO in a file that does not name it, for each SCAN_BYTES of it: it
takes one to a few microseconds per page."""
HEAD_BYTES = 64


def _ones_in(block: bytes) -> int:
    """The ones in a block of the bitmap; parts without any, as in the bitmap of a machine with
    holes in its memory, cost a comparison."""
    total = 0
    for at in range(0, len(block), PART_BYTES):
        part = block[at : at + PART_BYTES]
        if part != NO_BITS:
            total += int.from_bytes(part, "little").bit_count()
    return total


def checked(count: int) -> list[int]:
    """The first descriptor of each batch that is checked, of `count`; the last batch is one of
    them, because a dump is cut off at its end."""
    batches = range(0, count, BATCH)
    chosen = [*batches[:: 1 + max(0, count - 1) // CHECKED_MAX]]
    return chosen if chosen[-1:] == [*batches[-1:]] else [*chosen, batches[-1]]


class KdumpMemory:
    """Pages by physical address, unpacked on demand; the last 512 are cached."""

    def __init__(self, file: Bytes) -> None:
        self.file = file
        raw = file.read(0, disk_dump_header.sizeof())
        if len(raw) < disk_dump_header.sizeof():
            raise DamagedDump(f"{file.name}: the file ends in its header")
        head = disk_dump_header.parse(raw)
        self.machine = head.utsname.machine.partition(b"\0")[0].decode("latin-1")
        """The architecture as uname -m prints it; QEMU writes another word for some."""
        self.block: int = head.block_size
        if self.block not in BLOCKS:
            raise DamagedDump(f"{file.name}: blocks of {self.block} bytes")
        sub, blocks, block = head.sub_hdr_size, head.bitmap_blocks, self.block
        if not 0 < sub < 1 << 16:
            raise DamagedDump(f"{file.name}: a sub-header of {sub} blocks")
        self.incomplete = bool(head.status & INCOMPLETE)
        self.codec = next((name for flag, name in CODECS.items() if head.status & flag), "")
        self.read_sub_header(head.header_version, head.max_mapnr)
        self.bitmap: int = (1 + sub + blocks // 2) * block
        """File offset of the second bitmap."""
        self.bitmap_room: int = blocks // 2 * block
        """Bytes of each bitmap; the first one, with all RAM, precedes the second."""
        there = max(0, file.size - self.bitmap)
        self.bitmap_size: int = min(blocks // 2 * self.block, (self.pages + 7) // 8, there)
        self.descriptors: int = (1 + sub + blocks) * block
        self.ranks = array("Q", (0,))
        """Pages in the file before each RANK_BYTES of the bitmap, as far as counted."""
        self.unpacking = 0
        """Units of work for the pages that were unpacked so far."""
        self.maps: dict[int, bytes] = {}
        self.kept: dict[int, bytes] = {}
        self.first = self.rank(self.start) if self.split else 0

    @property
    def work(self) -> int:
        return self.unpacking + self.file.work

    @property
    def format(self) -> str:
        return f"kdump-compressed ({self.codec or 'not compressed'})"

    @property
    def size(self) -> int:
        """Bytes of the pages that the file has; counts the whole bitmap."""
        return self.rank(self.bitmap_size * 8) * self.block

    def read_sub_header(self, version: int, mapnr: int) -> None:
        """Page frames, dump level, VMCOREINFO and notes; the version determines which fields
        exist."""
        size = kdump_sub_header.sizeof()
        sub = kdump_sub_header.parse(self.file.read(self.block, size).ljust(size, b"\0"))
        self.level: int = sub.dump_level if version >= 1 else 0
        self.split = version >= 2 and sub.split != 0
        wide = version >= 6
        self.start: int = sub.start_pfn_64 if wide else sub.start_pfn
        self.end: int = sub.end_pfn_64 if wide else sub.end_pfn
        self.pages: int = sub.max_mapnr_64 if wide else mapnr
        if not 0 < self.pages < PAGES_MAX:
            raise DamagedDump(f"{self.file.name}: {self.pages} page frames")
        info_size = min(sub.size_vmcoreinfo, INFO_MAX) if version >= 3 else 0
        self.vmcoreinfo = self.file.read(sub.offset_vmcoreinfo, info_size) or None
        note_size = min(sub.size_note, NOTES_MAX) if version >= 4 else 0
        self.notes = self.file.read(sub.offset_note, note_size)

    def bits(self, number: int) -> bytes:
        """Block `number` of the second bitmap, RANK_BYTES long."""
        found = self.maps.get(number)
        if found is None:
            at = number * RANK_BYTES
            size = max(0, min(RANK_BYTES, self.bitmap_size - at))
            found = self.file.read(self.bitmap + at, size).ljust(RANK_BYTES, b"\0")
            if len(self.maps) >= MAPS_KEPT:
                self.maps.clear()
            self.maps[number] = found
        return found

    def rank(self, frame: int) -> int:
        """Pages in the file before this page frame."""
        number, at = divmod(min(frame, self.bitmap_size * 8) >> 3, RANK_BYTES)
        if len(self.ranks) <= number:
            self.count(number)
        here = self.bits(number)
        part = int.from_bytes(here[: at + 1], "little") & (1 << at * 8 + (frame & 7)) - 1
        return self.ranks[number] + part.bit_count()

    def count(self, number: int) -> None:
        """Make `ranks` reach up to this block of the bitmap."""
        while len(self.ranks) <= number:
            at = (len(self.ranks) - 1) * RANK_BYTES
            raw = self.file.read(self.bitmap + at, min(COUNT_BYTES, self.bitmap_size - at))
            for start in range(0, COUNT_BYTES, RANK_BYTES):
                self.ranks.append(self.ranks[-1] + _ones_in(raw[start : start + RANK_BYTES]))

    def has(self, frame: int) -> bool:
        """Whether the file has this page frame."""
        if not 0 <= frame < self.bitmap_size * 8:
            return False
        if self.split and not self.start <= frame < self.end:
            return False
        number, at = divmod(frame >> 3, RANK_BYTES)
        return bool(self.bits(number)[at] >> (frame & 7) & 1)

    def packed(self, number: int) -> tuple[bytes, int]:
        """The packed bytes of the page with this descriptor, and its flags."""
        raw = self.file.read(self.descriptors + number * PAGE.size, PAGE.size)
        if len(raw) < PAGE.size:
            raise NotInDump(
                "the file ends before the page's descriptor",
                hint="the dump is cut off: copy it again",
            )
        offset, size, flags = PAGE.unpack(raw)
        if size > self.block:
            raise DamagedDump(f"{self.file.name}: a page of {size} bytes at {offset:#x}")
        data = self.file.read(offset, size)
        if len(data) < size:
            raise NotInDump(
                f"the file ends before the page at {offset:#x}",
                hint="the dump is cut off: copy it again",
            )
        return data, flags

    def page(self, frame: int) -> bytes:
        """One page frame. Raises NotInDump, DamagedDump, MissingPackage."""
        found = self.kept.get(frame)
        if found is not None:
            return found
        if not self.has(frame):
            raise NotInDump(f"page frame {frame:#x} is not in the dump")
        data, flags = self.packed(self.rank(frame) - self.first)
        cost = max((cost for flag, cost in COSTS.items() if flags & flag), default=1)
        self.unpacking += cost * self.block // COST_BYTES
        page = unpack_page(data, flags, self.block)
        if len(page) != self.block:
            raise DamagedDump(f"{self.file.name}: page frame {frame:#x} has {len(page)} bytes")
        if len(self.kept) >= PAGES_KEPT:
            del self.kept[next(iter(self.kept))]
        self.kept[frame] = page
        return page

    def read(self, addr: int, size: int) -> bytes:
        """Bytes by physical address."""
        frame, at = divmod(addr, self.block)
        if at + size <= self.block:
            return self.page(frame)[at : at + size]
        parts = []
        while size > 0:
            part = self.page(frame)[at : at + size]
            parts.append(part)
            size -= len(part)
            frame, at = frame + 1, 0
        return b"".join(parts)

    def find(self, needle: bytes) -> Iterator[int]:
        """Physical addresses of `needle` in the first bytes of a page, or anywhere in a larger
        block, which may be several pages of the kernel. Raises UnknownKernel if that takes too
        long."""
        parts = 1 + (self.file.size - 1) // SCAN_BYTES
        until = time.process_time() + min(SCAN_SECONDS * parts, SCAN_SECONDS_MAX)
        head = HEAD_BYTES if self.block == BLOCKS[0] else self.block
        for number, frame in enumerate(self.frames()):
            try:
                data, flags = self.packed(number)
                where = unpack_page(data, flags, self.block, head).find(needle)
            except (NotInDump, DamagedDump):
                where = -1
            if where >= 0:
                yield frame * self.block + where
            if number & 0xFF == 0xFF and time.process_time() > until:
                raise UnknownKernel(
                    f"{self.file.name}: no VMCOREINFO in the first {number} pages",
                    hint="dump with -device vmcoreinfo, or by makedumpfile",
                )

    @property
    def descriptor_count(self) -> int:
        """How many page descriptors the file has: one of a split dump has those of its part."""
        last = min(self.end, self.bitmap_size * 8) if self.split else self.bitmap_size * 8
        return max(0, self.rank(last) - self.first)

    @property
    def checks_all(self) -> bool:
        """Whether first_missing checks every descriptor."""
        return self.descriptor_count <= CHECKED_MAX

    def first_missing(self, watch: Watch = unwatched) -> str:
        """Checks page descriptors, all of them up to CHECKED_MAX; the first page that the file
        lacks, "" if none."""
        count = self.descriptor_count
        for at in checked(count):
            watch("page descriptors", at / count)
            size = min(BATCH, count - at) * PAGE.size
            raw = self.file.read(self.descriptors + at * PAGE.size, size)
            if len(raw) < size:
                return f"the descriptors of {count} pages end early"
            if bad := self.bad_descriptor(raw):
                return bad
        return ""

    def bad_descriptor(self, raw: bytes) -> str:
        """The first of these descriptors whose page is not in the file, "" if none."""
        offsets, sizes = array("Q", raw)[::3], array("I", raw)[2::6]
        last = self.file.size
        if max(offsets) + max(sizes) <= last and max(sizes) <= self.block and min(sizes):
            return ""
        for offset, length, _ in PAGE.iter_unpack(raw):
            if not 0 < length <= self.block or offset + length > last:
                return f"a page of {length} bytes at {offset:#x}, the file ends at {last:#x}"
        return ""

    def frames(self) -> Iterator[int]:
        """Every page frame of the file that has a descriptor, in order."""
        most = max(0, self.file.size - self.descriptors) // PAGE.size
        for number in range((self.bitmap_size + RANK_BYTES - 1) // RANK_BYTES):
            bits = self.bits(number)
            for at, byte in enumerate(bits):
                left = byte
                while left:
                    low = left & -left
                    if not most:
                        return
                    most -= 1
                    yield (number * RANK_BYTES + at) * 8 + low.bit_length() - 1
                    left ^= low
