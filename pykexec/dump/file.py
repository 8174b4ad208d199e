"""A dump as bytes by offset. Uses pread(2) instead of mmap(2): a file that is truncated meanwhile
gives an error, not SIGBUS."""

from __future__ import annotations

import os
import stat
from errno import ENOENT

from pykexec.dump.faults import NotADump, UnreadableDump

CHECK_NAME = "check the name of the file"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Bytes(Protocol):
        """A file, or an object that is read like one."""

        name: str
        size: int
        cut: bool
        """Whether its end mark is missing; False for a format without one."""
        work: int
        """What reading has cost so far, besides a system call for each read: one stands for as much
        time as a read takes."""

        def read(self, offset: int, size: int) -> bytes:
            """`size` bytes, fewer at the end of the file. Raises UnreadableDump."""
            ...


class DumpFile:
    """A regular file; closed with the last reference. `size` in bytes."""

    cut = False
    work = 0

    def __init__(self, path: str) -> None:
        self.name = path
        self.fd = -1
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            status = os.fstat(self.fd)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            number = _error_number(error)
            hint = CHECK_NAME if number == ENOENT else None
            fault = UnreadableDump(f"{path}: cannot be opened: {reason}", hint=hint, errno=number)
            raise fault from error
        if not stat.S_ISREG(status.st_mode):
            what = "a folder, " if stat.S_ISDIR(status.st_mode) else ""
            raise NotADump(f"{path}: {what}not a regular file")
        self.size = status.st_size

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes, fewer at the end of the file. Raises UnreadableDump."""
        if offset >= self.size:
            return b""
        parts, left = [], min(size, self.size - offset)
        while left:
            try:
                part = os.pread(self.fd, left, offset)
            except OSError as error:
                message = f"{self.name}: cannot be read at {offset:#x}: {error.strerror}"
                raise UnreadableDump(message) from error
            if not part:
                break
            parts.append(part)
            offset, left = offset + len(part), left - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


def _error_number(error: Exception) -> int:
    return (error.errno or 0) if isinstance(error, OSError) else 0
