"""Compression formats: each recognized by its first bytes, and unpacked in a stream of bounded
pieces. zstd and lz4 need optional packages, and the error names the one that is missing.
"""

from __future__ import annotations

import lzma
import struct
import zlib
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, Protocol

from pykexec.errors import NotSupported
from pykexec.frozen import dataclass
from pykexec.images.contents import CHUNK

DECODER_MEMORY = 128 << 20
"""Bytes that a decoder may ask for, as in kexec-tools: a header could ask for 4 GiB."""
HEAD_SIZE = 16
"""Bytes that are enough to distinguish all codecs."""
FEED = 64 << 10
"""Bytes to give a decoder at a time: it copies what follows its stream."""
MAX_STREAMS = 1 << 16
"""Limit for consecutive streams; bgzip makes one for every 64 KiB, and an empty one has 9 bytes."""
TOO_MANY = f"more than {MAX_STREAMS} consecutive streams"


class MissingCodec(NotSupported):
    """The package that unpacks this is not installed; `package` names it."""

    code = "missing-codec"


class Decoder(Protocol):
    """The interface that lzma, bz2 and zstd have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes | None: ...
    def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


class Inflate:
    """zlib's gzip decoder with the interface of the others."""

    def __init__(self) -> None:
        self.inner = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self.inner.eof

    @property
    def unused_data(self) -> bytes:
        return self.inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        out = self.inner.decompress(self.inner.unconsumed_tail + data, max_length)
        self.needs_input = not self.inner.unconsumed_tail and len(out) < max_length
        return out


Source = Iterator[bytes | memoryview]
Unpacker = Callable[[Source], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class Codec:
    """One compression format; `unpack` yields the bytes in pieces of some MiB at most."""

    name: str
    magic: bytes
    unpack: Unpacker

    def matches(self, head: bytes) -> bool:
        return head.startswith(self.magic)


class LzmaCodec(Codec):
    """LZMA alone has no magic: properties, dictionary size, unpacked size."""

    def matches(self, head: bytes) -> bool:
        if len(head) < 13 or not head.startswith(self.magic):
            return False
        dictionary = int.from_bytes(head[1:5], "little")
        size = int.from_bytes(head[5:13], "little")
        return not dictionary & (dictionary - 1) and (size == (1 << 64) - 1 or size < 1 << 38)


def _decoded(make: Callable[[], Decoder], magic: bytes, source: Source) -> Iterator[bytes]:
    """One stream after the other while the next begins with `magic`. Data after the last one is
    ignored (a kernel's payload has its unpacked size there)."""
    rest, source = b"", in_feeds(source)
    for _ in range(MAX_STREAMS):
        decoder = make()
        while not decoder.eof:
            ended = False
            if decoder.needs_input and not rest:
                chunk = next(source, None)
                rest, ended = bytes(chunk or b""), chunk is None
            out = decoder.decompress(rest, CHUNK)
            rest = b""
            if out:
                yield out
            elif ended and not decoder.eof:
                raise EOFError("cut off")
        rest = decoder.unused_data or b""
        while len(rest) < len(magic) and (chunk := next(source, None)) is not None:
            rest += bytes(chunk)
        if not rest.startswith(magic):
            return
    raise ValueError(TOO_MANY)


def in_feeds(source: Source) -> Iterator[bytes]:
    for chunk in source:
        for at in range(0, len(chunk), FEED):
            yield bytes(chunk[at : at + FEED])


GZIP_MAGIC, XZ_MAGIC, LZMA_MAGIC = b"\x1f\x8b\x08", b"\xfd7zXZ\0", b"\x5d\0\0"
BZIP2_MAGIC, ZSTD_MAGIC = b"BZh", b"\x28\xb5\x2f\xfd"
LZ4_LEGACY_MAGIC, LZ4_FRAME_MAGIC = b"\x02\x21\x4c\x18", b"\x04\x22\x4d\x18"
LZO_MAGIC = b"\x89LZO\0\r\n\x1a\n"
LZ4_BLOCK = 8 << 20
"""A legacy frame is a series of blocks that unpack to this size, except the last."""


def _unpack_gzip(source: Source) -> Iterator[bytes]:
    return _decoded(Inflate, GZIP_MAGIC, source)


def _unpack_xz(source: Source) -> Iterator[bytes]:
    return _decoded(
        lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=DECODER_MEMORY), XZ_MAGIC, source
    )


def _unpack_lzma(source: Source) -> Iterator[bytes]:
    return _decoded(
        lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=DECODER_MEMORY),
        LZMA_MAGIC,
        source,
    )


def _unpack_bzip2(source: Source) -> Iterator[bytes]:
    from bz2 import BZ2Decompressor

    return _decoded(BZ2Decompressor, BZIP2_MAGIC, source)


def _optional(names: tuple[str, ...], what: str, package: str) -> Any:
    """The first of these modules that is installed, or MissingCodec."""
    for name in names:
        try:
            return import_module(name)
        except ImportError:
            continue
    raise MissingCodec(
        f"it is compressed with {what}, and no Python package that unpacks it is installed",
        hint=f"pip install {package} (Debian: python3-{package})",
        package=package,
    )


ZSTD_MODULES = ("compression.zstd", "backports.zstd")


def _unpack_zstd(source: Source) -> Iterator[bytes]:
    module = _optional((*ZSTD_MODULES, "zstandard"), "zstd", "zstandard")

    def make() -> Decoder:
        if module.__name__ not in ZSTD_MODULES:
            return Unzstandard(module)
        options = {module.DecompressionParameter.window_log_max: 27}
        decoder: Decoder = module.ZstdDecompressor(options=options)
        return decoder

    return _translated(module.ZstdError, _decoded(make, ZSTD_MAGIC, source))


class Unzstandard:
    """The zstandard package's decoder with the interface of the others. It cannot limit the output
    of a step, so it is fed so little that a step of nothing but runs stays below 11 MiB."""

    STEP = 256

    def __init__(self, module: Any) -> None:
        inner = module.ZstdDecompressor(max_window_size=DECODER_MEMORY)
        self.inner, self.rest = inner.decompressobj(), b""

    @property
    def eof(self) -> bool:
        return bool(self.inner.eof)

    @property
    def needs_input(self) -> bool:
        return not self.rest

    @property
    def unused_data(self) -> bytes:
        return bytes(self.inner.unused_data) + self.rest

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        self.rest += data
        view, parts, at, done = memoryview(self.rest), [], 0, 0
        while at < len(view) and done < max_length and not self.eof:
            parts.append(self.inner.decompress(view[at : at + self.STEP]))
            at, done = at + self.STEP, done + len(parts[-1])
        self.rest = bytes(view[at:])
        return b"".join(parts)


class Reader:
    """Presents chunks as a file that is read in order."""

    def __init__(self, source: Source) -> None:
        self.source, self.rest = source, memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; b"" at the end."""
        if not self.rest:
            self.rest = memoryview(bytes(next(self.source, b"")))
        size = len(self.rest) if size < 0 else size
        out, self.rest = self.rest[:size], self.rest[size:]
        return bytes(out)

    def exactly(self, size: int) -> bytes:
        """`size` bytes, fewer only at the end."""
        parts, left = [], size
        while left and (part := self.read(left)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)


def _translated(fault: type[Exception], pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Turns a package's own error into ValueError."""
    try:
        yield from pieces
    except fault as error:
        raise ValueError(str(error)) from error


def _unpack_lz4_legacy(source: Source) -> Iterator[bytes]:
    """The output of `lz4 -l`, as in a kernel build; lz4.frame does not support these frames."""
    block = _optional(("lz4.block",), "lz4", "lz4")
    reader = Reader(source)
    reader.exactly(len(LZ4_LEGACY_MAGIC))
    short = 0
    while len(size := reader.exactly(4)) == 4:
        if short == MAX_STREAMS:
            raise ValueError(TOO_MANY)
        packed_size = struct.unpack("<I", size)[0]
        if size == LZ4_LEGACY_MAGIC:
            short += 1
            continue
        packed = reader.exactly(min(packed_size, 2 * LZ4_BLOCK))
        if not packed:  # the unpacked size, which a kernel build appends
            return
        if len(packed) < packed_size:
            raise EOFError("cut off")
        try:
            piece = block.decompress(packed, uncompressed_size=LZ4_BLOCK)
        except block.LZ4BlockError as error:
            raise ValueError(str(error)) from error
        short += len(piece) < LZ4_BLOCK
        yield piece


def _unpack_lz4_frame(source: Source) -> Iterator[bytes]:
    frame = _optional(("lz4.frame",), "lz4", "lz4")
    return _decoded(frame.LZ4FrameDecompressor, LZ4_FRAME_MAGIC, source)


def _refuse_lzo(source: Source) -> Iterator[bytes]:
    raise NotSupported("it is compressed with lzo, which pykexec cannot unpack", hint="lzop -d")


CODECS = (
    Codec("gzip", GZIP_MAGIC, _unpack_gzip),
    Codec("xz", XZ_MAGIC, _unpack_xz),
    Codec("bzip2", BZIP2_MAGIC, _unpack_bzip2),
    Codec("zstd", ZSTD_MAGIC, _unpack_zstd),
    Codec("lz4 (legacy)", LZ4_LEGACY_MAGIC, _unpack_lz4_legacy),
    Codec("lz4", LZ4_FRAME_MAGIC, _unpack_lz4_frame),
    Codec("lzo", LZO_MAGIC, _refuse_lzo),
    LzmaCodec("lzma", LZMA_MAGIC, _unpack_lzma),
)


def codec_of(head: bytes) -> Codec | None:
    """The codec of a file by its first HEAD_SIZE bytes; None if it is not compressed."""
    return next((codec for codec in CODECS if codec.matches(head)), None)
