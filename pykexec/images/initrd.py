"""What is in an initrd: cpio archives one after the other, plain or compressed
(Documentation/driver-api/early-userspace/buffer-format.rst).

The unpacked size is what the kernel's tmpfs will hold, and it is counted, never believed:
the stream is unpacked piece by piece, and thrown away.
"""

from __future__ import annotations

from dataclasses import dataclass

from pykexec.images.codecs import HEAD_SIZE, Codec, codec_of
from pykexec.images.compression import MAX_UNPACKED, unpacked
from pykexec.images.contents import OpenFile
from pykexec.images.cpio import NEWC_MAGICS, NotAnInitrd, file_entries

PADDING = 4096
"""Zeros between archives; more of them are the end."""
SLACK = 64 << 20
"""More than one step of a decoder: our own limit is met first."""


@dataclass(frozen=True, slots=True)
class Archive:
    """One cpio archive: where it starts in the file, how it is packed, what it holds."""

    offset: int
    codec: str | None
    unpacked: int
    """Bytes of the archive itself."""
    files: int | None
    """Entries; None for a compressed one, which is only measured."""
    complete: bool = True
    """False where it was cut off at the limit of what is unpacked."""


@dataclass(frozen=True, slots=True)
class Initrd:
    """`size` bytes as they lie in memory, and the archives in them."""

    size: int
    archives: tuple[Archive, ...]

    @property
    def unpacked(self) -> int:
        return sum(item.unpacked for item in self.archives)


def looks_like_initrd(file: OpenFile) -> bool:
    """By the first bytes: a cpio archive, or something compressed that begins with one."""
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
    """Raises NotAnInitrd, BadCompression, MissingCodec. A compressed archive is taken for
    the last one: where its stream ends, only its decoder knows."""
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
        archives.append(measured(file, at, codec, limit))
        break
    if not archives:
        raise NotAnInitrd(f"{file.path}: contains no cpio archive")
    return Initrd(file.size, tuple(archives))


def measured(file: OpenFile, at: int, codec: Codec, limit: int) -> Archive:
    """The size of a compressed archive; the limit cuts it off."""
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
    """Past zeros, as far as there may be some between two archives."""
    raw = file.read(at, min(PADDING, file.size - at))
    return at + len(raw) - len(raw.lstrip(b"\0"))


def cpio_end(file: OpenFile, start: int) -> tuple[int, int]:
    """Where the archive at `start` ends, and how many entries it has."""
    ends = [end for _, end in file_entries(file, start)]
    return ends[-1], len(ends) - 1  # the trailer is no entry
