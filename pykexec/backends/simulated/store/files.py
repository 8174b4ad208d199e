"""Complete reads and writes on file descriptors, and atomic replacement of files."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

CHUNK = 1 << 20
"""Bytes to hold in memory at a time."""
NO_COPY = frozenset((errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM))
"""Errors of copy_file_range(2) for files, kernels and sandboxes without support for it."""


def pread_all(fd: int, size: int, offset: int) -> bytes:
    """Exactly `size` bytes; bytes past the end of the file read as zeros. Raises OSError."""
    data = os.pread(fd, size, offset)
    while len(data) < size:
        more = os.pread(fd, size - len(data), offset + len(data))
        if not more:
            return data.ljust(size, b"\0")
        data += more
    return data


def pwrite_all(fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write all of it. Raises OSError."""
    done = os.pwrite(fd, data, offset)
    while done < len(data):
        done += os.pwrite(fd, memoryview(data)[done:], offset + done)


def copy_all(source: int, dest: int, size: int, at: int, to: int) -> None:
    """Copy `size` bytes of one file to another, from offset `at` to `to`; bytes past the end of the
    first are zeros. Done by the kernel if possible. Raises OSError."""
    end = at + size
    try:
        while at < end and (done := os.copy_file_range(source, dest, end - at, at, to)):
            at, to = at + done, to + done
    except OSError as error:
        if error.errno not in NO_COPY:
            raise
    while at < end:
        step = min(CHUNK, end - at)
        pwrite_all(dest, pread_all(source, step, at), to)
        at, to = at + step, to + step


def fill_all(fd: int, byte: bytes, size: int, offset: int) -> None:
    """Write the same byte `size` times. Raises OSError."""
    for at in range(0, size, CHUNK):
        pwrite_all(fd, byte * min(CHUNK, size - at), offset + at)


def open_own(path: Path, flags: int) -> int:
    """Open a file in the folder itself: never through a link, never inherited, and without waiting
    for a writer if it is a pipe. Raises OSError."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)


def replace_file(path: Path, contents: bytes) -> None:
    """Replace a file atomically: temporary file, fsync, rename. Raises OSError."""
    new = path.with_name(path.name + ".new")
    fd = open_own(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        pwrite_all(fd, contents, 0)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(new, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def remove(path: Path) -> None:
    """Remove a file if it exists."""
    with suppress(FileNotFoundError):
        path.unlink()
