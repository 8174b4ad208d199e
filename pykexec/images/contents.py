"""Bytes that will be put into memory, as a stream: an initrd is never held completely."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from errno import ENXIO
from functools import cached_property
from pathlib import Path
from typing import Protocol

from pykexec.errors import KexecError
from pykexec.frozen import dataclass

CHUNK = 4 << 20
"""Bytes per read: small enough for any cache, and large enough that a digest in a thread seldom
needs the interpreter."""


class UnreadableFile(KexecError):
    """A file that cannot be opened, read, or changed while it was read."""

    code = "unreadable-file"


class FileChanged(UnreadableFile):
    """A file that changed since it was opened, or since its digest was computed."""

    code = "file-changed"
    usual_hint = "make sure that nothing writes to it, and load again"


class Contents(Protocol):
    """`size` bytes, read in order, any number of times; files may change in between."""

    @property
    def name(self) -> str:
        """The files that the bytes come from, for messages; "" without one."""
        ...

    @property
    def size(self) -> int: ...

    def chunks(self) -> Iterator[bytes | memoryview]:
        """All bytes in order; a chunk is valid until the next one is requested."""
        ...

    @property
    def sha256(self) -> bytes: ...

    def first_sha256(self, now: bytes) -> bytes:
        """`sha256` if it was computed before; otherwise `now`, which becomes the digest."""
        ...


def _digest(contents: Contents) -> bytes:
    """SHA-256 of the bytes, in one pass and a constant amount of memory."""
    running = hashlib.sha256()
    for chunk in contents.chunks():
        running.update(chunk)
    return running.digest()


def copied(contents: Contents) -> Iterator[bytes | memoryview]:
    """All bytes in order, for copying them to their place, with a check that the bytes used are the
    bytes digested. Raises FileChanged at the end if they differ from the digest; if there was none,
    this pass computes it."""
    running = hashlib.sha256()
    for chunk in contents.chunks():
        running.update(chunk)
        yield chunk
    now = running.digest()
    if contents.first_sha256(now) != now:
        raise FileChanged(f"{contents.name}: changed while it was being loaded")


class Digested:
    """Bytes whose digest is computed once, on demand."""

    @property
    def name(self) -> str:
        return ""

    @cached_property
    def sha256(self: Contents) -> bytes:
        return _digest(self)

    def first_sha256(self, now: bytes) -> bytes:
        found: bytes = vars(self).setdefault("sha256", now)
        return found


@dataclass(frozen=True)
class Built(Digested):
    """Bytes in memory."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def chunks(self) -> Iterator[bytes | memoryview]:
        yield self.data


@dataclass(frozen=True)
class Zeros(Digested):
    """`size` zero bytes, without holding them: a gap inside an image."""

    size: int

    def chunks(self) -> Iterator[bytes | memoryview]:
        zeros = memoryview(bytes(min(CHUNK, self.size)))
        for done in range(0, self.size, CHUNK):
            yield zeros[: min(CHUNK, self.size - done)]


class OpenFile:
    """A regular file, opened once: what was checked is what is loaded."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self.fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise UnreadableFile(
                f"{self.path}: cannot be opened: {reason}", path=str(self.path)
            ) from error
        status = os.fstat(self.fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(self.fd)
            self.fd = -1
            what = "a folder, " if stat.S_ISDIR(status.st_mode) else ""
            raise UnreadableFile(
                f"{self.path}: {what}not a regular file",
                hint="use a regular file; pipes, devices and folders cannot be loaded",
            )
        self.size, self.mtime = status.st_size, status.st_mtime_ns

    @classmethod
    def of_descriptor(cls, fd: int, path: str | os.PathLike[str]) -> OpenFile:
        """A file without a name of its own; messages call it `path`. Takes over `fd`, and closes it
        with the last reference."""
        file = cls.__new__(cls)
        status = os.fstat(fd)
        file.path, file.fd = Path(path), fd
        file.size, file.mtime = status.st_size, status.st_mtime_ns
        return file

    def require_unchanged(self) -> None:
        """Raises FileChanged if the file was written to since it was opened. A rename over its name
        does not matter. This does not detect all writes: the timestamp has a granularity of some
        milliseconds, and writes through a mapping update it once; the digest detects those."""
        status = os.fstat(self.fd)
        if (status.st_size, status.st_mtime_ns) != (self.size, self.mtime):
            raise FileChanged(f"{self.path}: changed while it was being read")

    def span(self, offset: int, size: int) -> FileSpan:
        """A piece as Contents; the caller has checked that it is inside the file."""
        return FileSpan(self, offset, size)

    def read(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes. Raises UnreadableFile."""
        buffer = bytearray(size)
        self.read_into(memoryview(buffer), offset)
        return bytes(buffer)

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill `buffer` from `offset`. Raises UnreadableFile."""
        done = 0
        while done < len(buffer):
            try:
                count = os.preadv(self.fd, [buffer[done:]], offset + done)
            except OSError as error:
                raise UnreadableFile(
                    f"{self.path}: cannot be read: {error.strerror}", path=str(self.path)
                ) from error
            if not count:
                raise UnreadableFile(
                    f"{self.path}: ends early: it was {self.size:#x} bytes long",
                    hint="make sure that nothing writes to it",
                )
            done += count

    def __del__(self) -> None:
        if getattr(self, "fd", -1) >= 0:
            os.close(self.fd)


class InnerFile(OpenFile):
    """A piece of an open file, read as if it were a file: an image inside an image."""

    def __init__(self, outer: OpenFile, offset: int, size: int) -> None:
        self.path, self.outer, self.offset, self.size = outer.path, outer, offset, size
        self.fd = -1

    def require_unchanged(self) -> None:
        self.outer.require_unchanged()

    def span(self, offset: int, size: int) -> FileSpan:
        return self.outer.span(self.offset + offset, size)

    def read_into(self, buffer: memoryview, offset: int) -> None:
        if offset + len(buffer) > self.size:
            raise UnreadableFile(
                f"{self.path}: the image inside ends early",
                hint="the file is damaged or incomplete",
            )
        self.outer.read_into(buffer, self.offset + offset)


@dataclass(frozen=True)
class FileSpan(Digested):
    """A piece of an open file, made by its `span`, so that `file` has a descriptor that can be
    mapped; the caller has checked that the piece is inside the file."""

    file: OpenFile
    offset: int
    size: int

    def __post_init__(self) -> None:
        assert self.file.fd >= 0, "a file inside a file cannot be mapped"

    @property
    def name(self) -> str:
        return str(self.file.path)

    def chunks(self) -> Iterator[bytes | memoryview]:
        buffer = memoryview(bytearray(min(CHUNK, self.size)))
        for done in range(0, self.size, CHUNK):
            chunk = buffer[: min(CHUNK, self.size - done)]
            self.file.read_into(chunk, self.offset + done)
            yield chunk
        self.file.require_unchanged()


@dataclass(frozen=True)
class Joined(Digested):
    """Contents one after the other."""

    parts: tuple[Contents, ...]

    @property
    def name(self) -> str:
        return ", ".join(dict.fromkeys(part.name for part in self.parts if part.name))

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    def chunks(self) -> Iterator[bytes | memoryview]:
        for part in self.parts:
            yield from part.chunks()


def joined(parts: Sequence[Contents]) -> Contents:
    """Parts one after the other, as one; a single part is returned unchanged."""
    return parts[0] if len(parts) == 1 else Joined(tuple(parts))


def joined_archives(parts: Iterable[Contents]) -> Contents | None:
    """Archives as the kernel's unpacker expects them, each at a multiple of 4
    (Documentation/driver-api/early-userspace/buffer-format.rst); None without any."""
    padded: list[Contents] = []
    for part in parts:
        if padded and (padding := -padded[-1].size % 4):
            padded.append(Built(bytes(padding)))
        padded.append(part)
    return joined(padded) if padded else None


def joined_initrd(paths: Iterable[Path]) -> Contents | None:
    """Several initrds as one; None without any. Raises UnreadableFile."""
    files = [OpenFile(path) for path in paths]
    for file in files:
        if not file.size:
            raise UnreadableFile(
                f"{file.path}: an initrd cannot be an empty file", hint="rebuild it, or omit it"
            )
    return joined_archives(file.span(0, file.size) for file in files)


def contents_bytes(contents: Contents, limit: int) -> bytes:
    """All bytes in one object, for small contents. Raises UnreadableFile above `limit`."""
    if contents.size > limit:
        raise UnreadableFile(
            f"{contents.size:#x} bytes exceed the limit of {limit:#x} for a single read",
            hint="the headers are damaged",
        )
    return b"".join(bytes(chunk) for chunk in contents.chunks())  # a chunk is valid until the next


def data_extents(fd: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """[start, end) offsets of data, without holes, between two offsets (lseek SEEK_DATA); the whole
    range if the file system does not support that. Raises OSError."""
    while start < end:
        try:
            start = os.lseek(fd, start, os.SEEK_DATA)
        except OSError as error:
            if error.errno == ENXIO:  # holes up to the end of the file
                return
            raise
        if start < end:
            hole = min(os.lseek(fd, start, os.SEEK_HOLE), end)
            yield start, hole
            start = hole


def write_new(path: Path, chunks: Iterable[bytes | memoryview], mode: int = 0o666) -> None:
    """Create a file with all of these bytes, or no file; never replaces an existing file or follows
    a link. Raises OSError, and what the chunks raise."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with open(fd, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
    except BaseException:
        path.unlink()
        raise
