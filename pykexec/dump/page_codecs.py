"""How a page of a kdump-compressed file is packed, and how each is unpacked."""

from __future__ import annotations

import zlib

from pykexec.dump import lzo, snappy
from pykexec.dump.faults import DamagedDump
from pykexec.errors import NotSupported

ZLIB, LZO, SNAPPY, ZSTD = 1, 2, 4, 32
CODECS = {ZLIB: "zlib", LZO: "lzo", SNAPPY: "snappy", ZSTD: "zstd"}
"""Flags of a page and of the header's status (diskdump_mod.h: DUMP_DH_COMPRESSED_*)."""


COSTS = {ZLIB: 10, LZO: 120, SNAPPY: 120, ZSTD: 10}
"""Units of work for 4 KiB that are unpacked; one is what a read costs. Two are in pure Python."""
COST_BYTES = 4096


class MissingPackage(NotSupported):
    """The Python package that unpacks this is not installed; `package` names it."""

    code = "missing-codec"


def unpack_page(data: bytes, flags: int, size: int, first: int = 0) -> bytes:
    """A page of `size` bytes. With `first`, possibly only its start, at least that many bytes,
    where that is faster. Raises DamagedDump, MissingPackage."""
    try:
        if flags & ZLIB:
            return _inflated(data, size, first)
        if flags & LZO:
            return lzo.decompress(data, size)
        if flags & SNAPPY:
            return snappy.decompress(data, size)
        if flags & ZSTD:
            return _unpack_zstd(data, size)
    except (zlib.error, ValueError, IndexError) as error:
        raise DamagedDump(f"a page does not unpack: {error}") from error
    return data


def _inflated(data: bytes, size: int, first: int) -> bytes:
    """Includes the checksum at the end, if more than the start is wanted."""
    stream = zlib.decompressobj()
    page = stream.decompress(data, first or size)
    if not first and (stream.decompress(stream.unconsumed_tail, 1) or not stream.eof):
        raise ValueError("it is longer than a page, or its end is missing")
    return page


def _unpack_zstd(data: bytes, size: int) -> bytes:
    """With Python's own module (3.14), its backport, or the package zstandard."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            module = __import__(name, fromlist=["zstd"])
        except ImportError:
            continue
        try:
            page: bytes = module.ZstdDecompressor().decompress(data, size)
        except module.ZstdError as error:
            raise ValueError(str(error)) from error
        return page
    try:
        import zstandard
    except ImportError:
        raise MissingPackage(
            "the dump is compressed with zstd, and no Python package that unpacks it is installed",
            hint="pip install zstandard (Debian: python3-zstandard)",
            package="zstandard",
        ) from None
    try:
        return zstandard.ZstdDecompressor(max_window_size=1 << 20).decompress(
            data, max_output_size=size
        )
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error
