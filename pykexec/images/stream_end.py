"""Checks that a compressed stream is complete without unpacking it, by its block headers or by its
last bytes: the file may have 200 MB.

Specifications: RFC 8878 (zstd), lz4_Frame_format.md ("Legacy frame"), xz-file-format.txt, RFC 1952
(gzip), lib/decompress_unlzo.c.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from pykexec.images.codecs import (
    BZIP2_MAGIC,
    GZIP_MAGIC,
    LZ4_BLOCK,
    LZ4_LEGACY_MAGIC,
    LZO_MAGIC,
    XZ_MAGIC,
    ZSTD_MAGIC,
    Codec,
)

if TYPE_CHECKING:
    from pykexec.images.contents import OpenFile

TAIL = 4096
"""Bytes at the end of a file that are searched for padding."""
ZSTD_SKIPPABLE = range(0x184D2A50, 0x184D2A60)
ZSTD_DICTIONARY = (0, 1, 2, 4)
"""Bytes of a dictionary ID, by the last two bits of a frame's descriptor."""
ZSTD_RAW, ZSTD_RLE, ZSTD_COMPRESSED = range(3)
LZ4_BOUND = LZ4_BLOCK + LZ4_BLOCK // 255 + 16
"""The largest compressed size of a full block (LZ4_compressBound)."""
BZIP2_END = 0x177245385090
"""The six bytes before the checksum at the end, at any bit offset."""
CPIO_BLOCK = 512
"""Every program pads cpio archives to this: GNU cpio, bsdcpio, dracut-cpio, gen_init_cpio."""
DEFLATE_RATIO = 1032
"""The most bytes that one compressed byte can expand to."""
XZ_FOOTER = 12


class CutOff(Exception):
    """The file ends inside a block."""


def ends_well(file: OpenFile, at: int, codec: Codec) -> bool | None:
    """Whether the stream at the offset `at` is complete: False if that is doubtful (unpack it to be
    sure), None if it cannot be known."""
    if walk := WALKS.get(codec.magic):
        try:
            walk(Bytes(file), at)
        except CutOff:
            return False
        return True
    tail = file.read(max(at, file.size - TAIL), min(TAIL, file.size - at))
    check = TAILS.get(codec.magic)
    return check(tail, file.size - at) if check else None


class Bytes:
    """Reads that raise CutOff past the end."""

    def __init__(self, file: OpenFile) -> None:
        self.file = file

    def left(self, at: int) -> int:
        return self.file.size - at

    def number(self, at: int, size: int, order: Literal["little", "big"] = "little") -> int:
        if self.left(at) < size:
            raise CutOff
        return int.from_bytes(self.file.read(at, size), order)

    def skip(self, at: int, size: int) -> int:
        if self.left(at) < size:
            raise CutOff
        return at + size


def zstd(data: Bytes, at: int) -> int:
    """The end of the last frame. Raises CutOff."""
    while data.left(at) >= 4:
        magic = data.number(at, 4)
        if magic in ZSTD_SKIPPABLE:
            at = data.skip(at + 8, data.number(at + 4, 4))
        elif magic == int.from_bytes(ZSTD_MAGIC, "little"):
            at = _zstd_frame(data, at + 4)
        else:
            break
    return at


def _zstd_frame(data: Bytes, at: int) -> int:
    """The end of the frame whose descriptor is at `at`."""
    descriptor = data.number(at, 1)
    single, checksum = descriptor >> 5 & 1, descriptor >> 2 & 1
    size = (single, 2, 4, 8)[descriptor >> 6]
    at = data.skip(at + 1, (0 if single else 1) + ZSTD_DICTIONARY[descriptor & 3] + size)
    last = 0
    while not last:
        header = data.number(at, 3)
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        if kind > ZSTD_COMPRESSED:
            raise CutOff  # not a block but something else
        at = data.skip(at + 3, 1 if kind == ZSTD_RLE else size)
    return data.skip(at, 4 * checksum)


def _lz4_legacy(data: Bytes, at: int) -> int:
    """The end of the last block. A file that was truncated between two blocks looks complete."""
    while data.left(at) >= 4:
        size = data.number(at, 4)
        if size == int.from_bytes(LZ4_LEGACY_MAGIC, "little"):
            at += 4
        elif not 0 < size <= LZ4_BOUND:
            break
        else:
            at = data.skip(at + 4, size)
    return at


LZO_ADLER_D, LZO_ADLER_C, LZO_CRC_D, LZO_CRC_C, LZO_FILTER = 0x1, 0x2, 0x100, 0x200, 0x800


def lzo(data: Bytes, at: int) -> int:
    """The end of the block of size 0 that ends a file of lzop."""
    start = at + len(LZO_MAGIC)
    new = data.number(start, 2, "big") >= 0x940  # two more fields
    at = data.skip(start, 8 if new else 7)  # versions, method, level
    flags = data.number(at, 4, "big")
    at = data.skip(at, 4 + (4 if flags & LZO_FILTER else 0) + (12 if new else 8))
    at = data.skip(at + 1, data.number(at, 1) + 4)  # the file's name, a checksum
    plain_sums = bool(flags & LZO_ADLER_D) + bool(flags & LZO_CRC_D)
    packed_sums = bool(flags & LZO_ADLER_C) + bool(flags & LZO_CRC_C)
    while plain := data.number(at, 4, "big"):
        packed = data.number(at + 4, 4, "big")
        sums = plain_sums + (packed_sums if packed < plain else 0)
        at = data.skip(at + 8, 4 * sums + packed)
    return at + 4


WALKS: dict[bytes, Callable[[Bytes, int], int]] = {
    ZSTD_MAGIC: zstd,
    LZ4_LEGACY_MAGIC: _lz4_legacy,
    LZO_MAGIC: lzo,
}


def xz(tail: bytes, packed: int) -> bool:
    """By the stream's footer, which has its own checksum."""
    footer = tail.rstrip(b"\0")[-XZ_FOOTER:]
    return (
        len(footer) == XZ_FOOTER
        and footer.endswith(b"YZ")
        and zlib.crc32(footer[4:10]) == int.from_bytes(footer[:4], "little")
    )


def gzip(tail: bytes, packed: int) -> bool | None:
    """By the unpacked size at its end: a plausible one, and that of a padded archive."""
    if len(tail) < 8 or not any(tail[-8:]):
        return None
    size = int.from_bytes(tail[-4:], "little")
    return size % CPIO_BLOCK == 0 and packed // 2 < size < packed * DEFLATE_RATIO


def bzip2(tail: bytes, packed: int) -> bool:
    """By the mark before the checksum; the checksum may end in zeros, and so may the file."""
    padded = len(tail) - len(tail.rstrip(b"\0")) > 4
    end = tail.rstrip(b"\0") + bytes(4) if padded else tail
    found, mask = int.from_bytes(end[-16:], "big"), (1 << 48) - 1
    return any(found >> shift & mask == BZIP2_END for shift in range(32, 80))


TAILS: dict[bytes, Callable[[bytes, int], bool | None]] = {
    XZ_MAGIC: xz,
    GZIP_MAGIC: gzip,
    BZIP2_MAGIC: bzip2,
}
