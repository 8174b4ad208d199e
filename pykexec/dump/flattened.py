"""makedumpfile -F and QEMU's kdump formats: pieces of a file in the order in which they were
written, each preceded by its offset and size (makedumpfile's IMPLEMENTATION, makedumpfile.h).

Read in place: the headers of the pieces are walked once, their contents are read on demand. Where
pieces overlap the last one counts, as it would in a reassembled file.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from itertools import pairwise

from pykexec.abi.kdump import TYPE_FLAT_HEADER, VERSION_FLAT_HEADER, makedumpfile_header
from pykexec.dump.faults import DamagedDump

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pykexec.dump.file import Bytes

HEADER_SIZE = 4096
"""MAX_SIZE_MDF_HEADER: struct makedumpfile_header, padded."""
PIECE = struct.Struct(">qq")
"""struct makedumpfile_data_header: offset and buf_size. There can be millions."""
END = -1
PIECES_MAX = 1 << 22
"""QEMU and makedumpfile write pieces of at least 16 KiB, so this allows a dump of 64 GiB."""


class Flattened:
    """The file inside, with the interface of DumpFile. `cut` is set if the end mark is missing."""

    def __init__(self, outer: Bytes) -> None:
        self.name, self.outer = outer.name, outer
        self.check_header()
        self.cut = True
        self.pieces: list[tuple[int, int, int]] = settled(self.walk())
        """(offset, end, offset in the outer file), sorted, without overlap."""
        self.starts = [piece[0] for piece in self.pieces]
        self.size = self.pieces[-1][1] if self.pieces else 0

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

    def walk(self) -> list[tuple[int, int, int]]:
        """Every piece in file order."""
        found: list[tuple[int, int, int]] = []
        at = HEADER_SIZE
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
                found.append((offset, offset + there, at))
            at += size
            if len(found) > PIECES_MAX:
                raise DamagedDump(
                    f"{self.name}: more than {PIECES_MAX} pieces",
                    hint="reassemble it first: makedumpfile -R",
                )
        return found

    def read(self, offset: int, size: int) -> bytes:
        """As DumpFile; bytes inside the file that no piece covers are zeros."""
        end = min(offset + size, self.size)
        parts, at = [], offset
        number = bisect_right(self.starts, at) - 1
        while at < end:
            if number >= 0 and at < self.pieces[number][1]:
                start, last, where = self.pieces[number]
                count = min(last, end) - at
                part = self.outer.read(where + at - start, count)
                if len(part) < count:
                    break
            else:
                upto = self.starts[number + 1] if number + 1 < len(self.starts) else end
                count = min(upto, end) - at
                part = bytes(count)
            parts.append(part)
            at += count
            number = bisect_right(self.starts, at) - 1
        return b"".join(parts)


def settled(pieces: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Pieces by offset, without overlap: where two overlap, the later one counts."""
    ordered = sorted(range(len(pieces)), key=lambda number: pieces[number][0])
    clear = all(pieces[a][1] <= pieces[b][0] for a, b in pairwise(ordered))
    if clear:
        return [pieces[number] for number in ordered]
    return _overlaid(pieces)


def _overlaid(pieces: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """A sweep over all ends, with the latest of the open pieces on top."""
    from heapq import heappop, heappush

    events = sorted((piece[0], number) for number, piece in enumerate(pieces))
    edges = sorted({edge for piece in pieces for edge in piece[:2]})
    waiting: list[int] = []
    found: list[tuple[int, int, int]] = []
    taken = 0
    for edge, after in pairwise(edges):
        while taken < len(events) and events[taken][0] <= edge:
            heappush(waiting, -events[taken][1])
            taken += 1
        while waiting and pieces[-waiting[0]][1] <= edge:
            heappop(waiting)
        if waiting:
            start, _, where = pieces[-waiting[0]]
            found.append((edge, after, where + edge - start))
    return found
