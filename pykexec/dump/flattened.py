"""makedumpfile -F and QEMU's kdump formats: pieces of a file in the order in which they were
written, each preceded by its offset and size (makedumpfile's IMPLEMENTATION, makedumpfile.h).

Read in place: the headers of the pieces are walked once, their contents are read on demand. Where
pieces overlap the last one counts, as it would in a reassembled file.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from heapq import heappop, heappush

from pykexec.abi.kdump import TYPE_FLAT_HEADER, VERSION_FLAT_HEADER, makedumpfile_header
from pykexec.dump.faults import DamagedDump

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pykexec.dump.file import Bytes

HEADER_SIZE = 4096
"""MAX_SIZE_MDF_HEADER: struct makedumpfile_header, padded."""
PIECE = struct.Struct(">qq")
"""struct makedumpfile_data_header: offset and buf_size. There can be millions."""
END = -1
OFFSET_MAX = (1 << 63) - 1
PIECE_BYTES, FEW_PIECES = 8 << 10, 1 << 12
"""Limit for the number of pieces: one for each PIECE_BYTES of the file, and a few. QEMU writes 16
KiB at a time, makedumpfile more."""


class Flattened:
    """The file inside, with the interface of DumpFile. `cut` is set if the end mark is missing."""

    def __init__(self, outer: Bytes) -> None:
        self.name, self.outer = outer.name, outer
        self.check_header()
        self.cut = True
        self.pieces = settled(self.walk())
        self.size = self.pieces.ends[-1] if self.pieces else 0
        self.work = 0

    def check_header(self) -> None:
        """Type and version, of which makedumpfile has one each."""
        raw = self.outer.read(0, makedumpfile_header.sizeof())
        if len(raw) < makedumpfile_header.sizeof():
            raise DamagedDump(f"{self.name}: the file ends in its header")
        head = makedumpfile_header.parse(raw)
        if (head.type, head.version) != (TYPE_FLAT_HEADER, VERSION_FLAT_HEADER):
            raise DamagedDump(
                f"{self.name}: a flattened file of type {head.type}, version {head.version}",
                hint="reassemble it first: makedumpfile -R",
            )

    def walk(self) -> Pieces:
        """Every piece in file order."""
        found, at = Pieces(), HEADER_SIZE
        most = FEW_PIECES + self.outer.size // PIECE_BYTES
        while len(head := self.outer.read(at, PIECE.size)) == PIECE.size:
            offset, size = PIECE.unpack(head)
            if offset == END:
                self.cut = False
                break
            if offset < 0 or size <= 0:
                raise DamagedDump(
                    f"{self.name}: a piece of {size} bytes for offset {offset}, at {at:#x}"
                )
            at += PIECE.size
            there = min(size, self.outer.size - at)
            if there > 0:
                found.append(offset, min(offset + there, OFFSET_MAX), at)
            at += size
            if len(found) > most:
                raise DamagedDump(
                    f"{self.name}: more than {most} pieces",
                    hint="reassemble it first: makedumpfile -R",
                )
        return found

    def read(self, offset: int, size: int) -> bytes:
        """As DumpFile; bytes inside the file that no piece covers are zeros."""
        end = min(offset + size, self.size)
        starts, ends, places = self.pieces.starts, self.pieces.ends, self.pieces.places
        parts, at = [], offset
        number = bisect_right(starts, at) - 1
        while at < end:
            self.work += 1
            if number >= 0 and at < ends[number]:
                count = min(ends[number], end) - at
                part = self.outer.read(places[number] + at - starts[number], count)
                if len(part) < count:
                    break
            else:
                upto = starts[number + 1] if number + 1 < len(starts) else end
                count = min(upto, end) - at
                part = bytes(count)
            parts.append(part)
            at += count
            number = bisect_right(starts, at) - 1
        return b"".join(parts)


class Pieces:
    """Start and end of each piece in the file inside, and its place in the outer file. Arrays: a
    file of 4 GiB has some hundred thousand."""

    def __init__(self) -> None:
        self.starts, self.ends, self.places = array("q"), array("q"), array("q")

    def __len__(self) -> int:
        return len(self.starts)

    def append(self, start: int, end: int, place: int) -> None:
        self.starts.append(start)
        self.ends.append(end)
        self.places.append(place)

    def chosen(self, numbers: Iterable[int]) -> Pieces:
        """These of them, in this order."""
        found = Pieces()
        for number in numbers:
            found.append(self.starts[number], self.ends[number], self.places[number])
        return found


def settled(pieces: Pieces) -> Pieces:
    """Pieces by offset, without overlap: where two overlap, the later one counts."""
    order = array("L", sorted(range(len(pieces)), key=pieces.starts.__getitem__))
    clear, done = True, 0
    for number in order:
        clear &= done <= pieces.starts[number]
        done = pieces.ends[number]
    return pieces.chosen(order) if clear else _overlaid(pieces, order)


def _overlaid(pieces: Pieces, order: array[int]) -> Pieces:
    """A sweep over all ends, with the latest of the open pieces on top."""
    edges = array("q", sorted({*pieces.starts, *pieces.ends}))
    waiting: list[int] = []
    found, taken = Pieces(), 0
    for number, edge in enumerate(edges[:-1]):
        while taken < len(order) and pieces.starts[order[taken]] <= edge:
            heappush(waiting, -order[taken])
            taken += 1
        while waiting and pieces.ends[-waiting[0]] <= edge:
            heappop(waiting)
        if waiting:
            top = -waiting[0]
            place = pieces.places[top] + edge - pieces.starts[top]
            found.append(edge, edges[number + 1], place)
    return found
