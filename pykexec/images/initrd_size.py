"""Estimates the size of an initrd after the kernel has unpacked it, without unpacking it: from the
headers of uncompressed archives, and from the size that a compressed stream declares.

Only an estimate depends on this: a stream with a wrong size makes it wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.images.codecs import (
    GZIP_MAGIC,
    HEAD_SIZE,
    LZ4_BLOCK,
    LZ4_LEGACY_MAGIC,
    ZSTD_MAGIC,
    Codec,
    codec_of,
)
from pykexec.images.cpio import NEWC_MAGICS, NotAnInitrd
from pykexec.images.initrd import after_padding, cpio_end
from pykexec.images.initrd_check import files_of
from pykexec.images.stream_end import (
    ZSTD_COMPRESSED,
    ZSTD_DICTIONARY,
    ZSTD_RLE,
    ZSTD_SKIPPABLE,
    Bytes,
    CutOff,
)

if TYPE_CHECKING:
    from pykexec.images.contents import Contents, OpenFile

USUAL_RATIO = {"gzip": 3.0, "zstd": 3.5, "xz": 4.5, "lzma": 4.5, "bzip2": 3.5}
"""For an initrd of programs and modules, if the stream does not declare its size."""
OTHER_RATIO = 2.5
RATIO_MAX = 20
"""A larger declared ratio is not used."""
ZSTD_BLOCK = 128 << 10
"""The largest number of bytes in a block; encoders fill all but the last, unless they split
blocks."""


def unpacked_size(initrd: Contents) -> int:
    """The size of all archives in bytes. Raises UnreadableFile."""
    files = list(files_of(initrd))
    other = initrd.size - sum(file.size for file in files)
    return sum(map(_file_size, files)) + max(0, round(other * OTHER_RATIO))


def _file_size(file: OpenFile) -> int:
    """The size of one file; data that is not an archive counts unchanged."""
    total, at = 0, 0
    try:
        while (at := after_padding(file, at)) < file.size:
            head = file.read(at, min(HEAD_SIZE, file.size - at))
            if head.startswith(NEWC_MAGICS):
                end, _ = cpio_end(file, at)
                total, at = total + end - at, end
            elif codec := codec_of(head):
                return total + _stream_size(file, at, codec)
            else:
                break
    except NotAnInitrd:
        pass
    return total + file.size - at


def _stream_size(file: OpenFile, at: int, codec: Codec) -> int:
    """The size of the compressed archive at the offset `at`, which is assumed to be the last
    one."""
    packed = file.size - at
    try:
        declared = _declared_size(file, at, codec)
    except CutOff:
        declared = None
    if declared is None:
        return round(packed * USUAL_RATIO.get(codec.name, OTHER_RATIO))
    return min(declared, packed * RATIO_MAX)


def _declared_size(file: OpenFile, at: int, codec: Codec) -> int | None:
    """The size that the stream itself declares. Raises CutOff."""
    if codec.magic == GZIP_MAGIC:
        packed = file.size - at
        declared = Bytes(file).number(max(at, file.size - 4), 4)
        return declared if packed // 2 < declared <= packed * RATIO_MAX else None
    if codec.magic == ZSTD_MAGIC:
        return zstd(Bytes(file), at)
    if codec.magic == LZ4_LEGACY_MAGIC:
        return _lz4_legacy(Bytes(file), at)
    return None


def zstd(data: Bytes, at: int) -> int:
    """The size of all frames: their content size if they have one, otherwise that of their
    blocks."""
    total = 0
    while data.left(at) >= 4:
        magic = data.number(at, 4)
        if magic in ZSTD_SKIPPABLE:
            at = data.skip(at + 8, data.number(at + 4, 4))
        elif magic == int.from_bytes(ZSTD_MAGIC, "little"):
            at, size = _zstd_frame(data, at + 4)
            total += size
        else:
            break
    return total


def _zstd_frame(data: Bytes, at: int) -> tuple[int, int]:
    """The end of the frame, and its unpacked size (RFC 8878, 3.1.1)."""
    descriptor = data.number(at, 1)
    single, checksum = descriptor >> 5 & 1, descriptor >> 2 & 1
    field = (single, 2, 4, 8)[descriptor >> 6]
    size_at = data.skip(at + 1, (0 if single else 1) + ZSTD_DICTIONARY[descriptor & 3])
    declared = data.number(size_at, field) + (256 if field == 2 else 0) if field else None
    at, total, last = data.skip(size_at, field), 0, 0
    while not last:
        header = data.number(at, 3)
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        if kind > ZSTD_COMPRESSED:
            raise CutOff  # not a block but something else
        total += ZSTD_BLOCK if kind == ZSTD_COMPRESSED else size
        at = data.skip(at + 3, 1 if kind == ZSTD_RLE else size)
    return data.skip(at, 4 * checksum), total if declared is None else declared


def _lz4_legacy(data: Bytes, at: int) -> int:
    """Each block has LZ4_BLOCK bytes except the last, which counts as a half."""
    blocks = 0
    while data.left(at) >= 4:
        size = data.number(at, 4)
        if size == int.from_bytes(LZ4_LEGACY_MAGIC, "little"):
            at += 4
        elif not size:
            break
        else:
            at, blocks = data.skip(at + 4, size), blocks + 1
    return blocks * LZ4_BLOCK - LZ4_BLOCK // 2 if blocks else 0
