"""cpio archives as the kernel unpacks them: newc, uncompressed or in a stream
(Documentation/driver-api/early-userspace/buffer-format.rst).

Only headers are read; contents are skipped, by offset in a file and by counting in a stream.
"""

from __future__ import annotations

import struct
from binascii import unhexlify
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pykexec.errors import KexecError
from pykexec.frozen import dataclass

if TYPE_CHECKING:
    from pykexec.images.contents import OpenFile

NEWC_MAGICS = (b"070701", b"070702")
NEWC_HEADER = 110
NEWC_FIELDS = struct.Struct(">13I")
"""The fields after the magic, each of eight hex digits."""
MODE, FILESIZE, NAMESIZE = 1, 6, 11
"""Indexes among the 13."""
TRAILER = b"TRAILER!!!"
MAX_ENTRIES = 1_000_000
MAX_NAME = 4096
WINDOW = 16 << 10
"""Bytes per read: most headers are near the previous one."""


class NotAnInitrd(KexecError):
    """A cpio archive was expected, and there is none, or it is damaged."""

    code = "not-an-initrd"
    usual_hint = "rebuild it (update-initramfs -u, dracut -f), or copy it again"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of an archive: its path as stored, and its mode as in stat(2)."""

    name: bytes
    mode: int


Read = Callable[[int, int], bytes]
"""Takes an offset and a size, returns that many bytes, fewer at the end; offsets only increase."""


class Window:
    """A file that is read in order, with gaps."""

    def __init__(self, file: OpenFile) -> None:
        self.file, self.at, self.data = file, 0, b""

    def read(self, at: int, size: int) -> bytes:
        inside = at - self.at
        if inside < 0 or inside + size > len(self.data):
            left = max(0, self.file.size - at)
            self.at, inside = at, 0
            self.data = self.file.read(at, min(max(size, WINDOW), left))
        return self.data[inside : inside + size]


class Stream:
    """Presents pieces in order as a file; what was passed is dropped."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self.pieces, self.at, self.data = pieces, 0, b""

    @property
    def end(self) -> int:
        """Offset up to which the stream has been unpacked."""
        return self.at + len(self.data)

    def read(self, at: int, size: int) -> bytes:
        while self.end < at + size and (piece := next(self.pieces, None)) is not None:
            if at >= self.end:
                self.at, self.data = self.end, piece
            else:
                self.at, self.data = at, self.data[at - self.at :] + piece
        inside = at - self.at
        return self.data[inside : inside + size]


def entries(read: Read, start: int, where: str) -> Iterator[tuple[Entry, int]]:
    """Each entry of the archive at `start` and the offset of its end, the trailer last. Does not
    check that the last contents are complete. Raises NotAnInitrd, with a message that begins with
    `where`."""
    at = start
    for _ in range(MAX_ENTRIES):
        header = read(at, NEWC_HEADER)
        if len(header) < NEWC_HEADER:
            raise NotAnInitrd(f"{where}: the archive at {start:#x} ends early, without TRAILER!!!")
        if not header.startswith(NEWC_MAGICS):
            raise NotAnInitrd(f"{where}: no cpio header at {at:#x}, found {ascii(header[:6])[1:]}")
        try:
            fields = NEWC_FIELDS.unpack(unhexlify(header[6:]))
        except ValueError:
            raise NotAnInitrd(f"{where}: a cpio header at {at:#x} is damaged") from None
        name_size = fields[NAMESIZE]
        if not 0 < name_size <= MAX_NAME:
            raise NotAnInitrd(f"{where}: the name of the entry at {at:#x} has {name_size} bytes")
        name = read(at + NEWC_HEADER, name_size)
        if len(name) < name_size:
            raise NotAnInitrd(f"{where}: the archive at {start:#x} ends early, without TRAILER!!!")
        entry = Entry(name.rstrip(b"\0"), fields[MODE])
        end = start + (at - start + NEWC_HEADER + name_size + 3 & ~3)
        if entry.name == TRAILER:
            yield entry, end
            return
        at = end + (fields[FILESIZE] + 3 & ~3)
        yield entry, at
    raise NotAnInitrd(f"{where}: more than {MAX_ENTRIES} entries in one archive")


def file_entries(file: OpenFile, start: int) -> Iterator[tuple[Entry, int]]:
    """`entries` of an uncompressed archive in a file; their contents must be inside the file."""
    before = start
    for entry, end in entries(Window(file).read, start, str(file.path)):
        if end - 3 > file.size:
            raise NotAnInitrd(
                f"{file.path}: the entry at {before:#x} extends past the end of the file"
            )
        yield entry, end
        before = end


def stream_entries(stream: Stream, where: str) -> Iterator[Entry]:
    """The entries of all consecutive archives in a stream, up to data that is not cpio."""
    at = 0
    while True:
        for entry, end in entries(stream.read, at, where):
            yield entry
            at = end
        while (piece := stream.read(at, WINDOW)) and not any(piece):
            at += len(piece)
        at += len(piece) - len(piece.lstrip(b"\0"))
        if not stream.read(at, NEWC_HEADER).startswith(NEWC_MAGICS):
            return
