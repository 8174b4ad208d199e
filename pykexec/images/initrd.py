"""The contents of an initrd: consecutive cpio archives, each compressed or not
(Documentation/driver-api/early-userspace/buffer-format.rst).

The unpacked size is what the kernel's tmpfs will hold. It is counted, not taken from a header: the
stream is unpacked piece by piece, and the result dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.frozen import dataclass
from pykexec.images.codecs import HEAD_SIZE, Codec, codec_of
from pykexec.images.compression import MAX_UNPACKED, unpacked
from pykexec.images.cpio import NEWC_MAGICS, NotAnInitrd, file_entries

if TYPE_CHECKING:
    from pykexec.images.contents import OpenFile

PADDING = 4096
"""Zeros between archives; more of them are the end."""
SLACK = 64 << 20
"""More than one step of a decoder, so that our own limit is reached first."""


@dataclass(frozen=True, slots=True)
class Archive:
    """One cpio archive: its offset in the file, its compression, and its contents."""

    offset: int
    codec: str | None
    unpacked: int
    """Bytes of the archive itself."""
    files: int | None
    """Number of entries; None for a compressed archive, whose size alone is counted."""
    complete: bool = True
    """False if unpacking stopped at the limit."""


@dataclass(frozen=True, slots=True)
class Initrd:
    """Its `size` in memory in bytes, and its archives."""

    size: int
    archives: tuple[Archive, ...]

    @property
    def unpacked(self) -> int:
        return sum(item.unpacked for item in self.archives)


def looks_like_initrd(file: OpenFile) -> bool:
    """Whether the first bytes are those of a cpio archive, compressed or not."""
    head = file.read(0, min(HEAD_SIZE, file.size))
    if head.startswith(NEWC_MAGICS):
        return True
    codec = codec_of(head)
    if codec is None:
        return False
    name, contents = str(file.path), file.span(0, file.size)
    first = next(unpacked(name, contents, codec, MAX_UNPACKED), b"")
    return first.startswith(NEWC_MAGICS)


def read_initrd(file: OpenFile, limit: int = MAX_UNPACKED) -> Initrd:
    """Raises NotAnInitrd, BadCompression, MissingCodec. A compressed archive is assumed to be the
    last one: only its decoder could find where its stream ends."""
    archives: list[Archive] = []
    at = 0
    while (at := after_padding(file, at)) < file.size:
        head = file.read(at, min(HEAD_SIZE, file.size - at))
        if head.startswith(NEWC_MAGICS):
            end, files = cpio_end(file, at)
            archives.append(Archive(at, None, end - at, files))
            at = end
            continue
        codec = codec_of(head)
        if codec is None:
            if archives and not any(head):
                break
            raise NotAnInitrd(f"{file.path}: neither cpio nor compressed at {at:#x}")
        archives.append(_measured(file, at, codec, limit))
        break
    if not archives:
        raise NotAnInitrd(f"{file.path}: contains no cpio archive")
    return Initrd(file.size, tuple(archives))


def _measured(file: OpenFile, at: int, codec: Codec, limit: int) -> Archive:
    """Count the size of a compressed archive, up to the limit."""
    total = 0
    contents = file.span(at, file.size - at)
    for piece in unpacked(str(file.path), contents, codec, limit + SLACK):
        if not total and not piece.startswith(NEWC_MAGICS):
            raise NotAnInitrd(
                f"{file.path}: the {codec.name} stream at {at:#x} contains no cpio archive"
            )
        total += len(piece)
        if total > limit:
            return Archive(at, codec.name, total, None, complete=False)
    return Archive(at, codec.name, total, None)


def after_padding(file: OpenFile, at: int) -> int:
    """The offset after the padding that is allowed between two archives."""
    raw = file.read(at, min(PADDING, file.size - at))
    return at + len(raw) - len(raw.lstrip(b"\0"))


def cpio_end(file: OpenFile, start: int) -> tuple[int, int]:
    """Where the archive at `start` ends, and how many entries it has."""
    ends = [end for _, end in file_entries(file, start)]
    return ends[-1], len(ends) - 1  # without the trailer
