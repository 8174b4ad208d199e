"""The source of /proc and /sys: the real root folder, or a captured machine.

Every read has a limit, and returns `Unknown` with the reason if it fails. Reads never leave a
folder other than "/", whatever its links contain.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Protocol

from pykexec.errors import KexecError
from pykexec.frozen import dataclass
from pykexec.machine import Unknown

READ_MAX = 4 << 20
"""Limit in bytes for a file of /proc or /sys that is read completely."""
LINES_MAX = 64 << 20
"""Limit in bytes for searching /proc/kallsyms."""
ENTRIES_MAX = 1 << 16
MEMORY = "/dev/mem"
"""The only device of this machine that is read."""
ADDRESSES = 1 << 64


class BadRoot(KexecError):
    """The argument of --root is neither a folder nor a captured machine."""

    code = "bad-root"
    usual_hint = (
        "use a folder that contains /proc and /sys, or a file written by pykexec machine capture"
    )


class Root(Protocol):
    """Files by absolute path."""

    @property
    def name(self) -> str:
        """The name of the machine for messages."""
        ...

    def read(self, path: str, limit: int = READ_MAX) -> bytes | Unknown:
        """The complete file; Unknown above `limit` bytes."""
        ...

    def head(self, path: str, size: int) -> bytes | Unknown:
        """At most the first `size` bytes."""
        ...

    def part(self, path: str, offset: int, size: int) -> bytes | Unknown:
        """Exactly `size` bytes from `offset`."""
        ...

    def entries(self, path: str) -> tuple[str, ...] | Unknown:
        """The names in a folder, sorted."""
        ...

    def exists(self, path: str) -> bool | Unknown:
        """Whether its folder lists it; Unknown if that cannot be read."""
        ...

    def link(self, path: str) -> str | Unknown:
        """The target of a symbolic link, as stored; "" if it is not a link."""
        ...

    def matching_lines(self, path: str, pattern: str) -> tuple[str, ...] | Unknown:
        """The lines that match the regular expression anywhere; the file is streamed."""
        ...


@dataclass(frozen=True)
class Folder:
    """A folder that is, or looks like, the root of a machine."""

    path: Path = Path("/")

    @property
    def name(self) -> str:
        return "this machine" if self.is_whole else str(self.path)

    @cached_property
    def is_whole(self) -> bool:
        """Whether this is "/", so that nothing can lead out of it."""
        return self.path == Path("/")

    def locate(self, path: str) -> str:
        """The file under this root. Raises PermissionError if the path leads out of it. Returns
        text, because making a Path takes longer than reading the file, and hundreds are read."""
        if self.is_whole:
            return "/" + path.lstrip("/")
        top = os.path.realpath(self.path)
        real = os.path.realpath(f"{top}/{path}")
        if real != top and not real.startswith(top.rstrip("/") + "/"):
            raise PermissionError(0, "leads out of the folder")
        return real

    def open(self, path: str) -> int:
        fd = os.open(self.locate(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        mode = os.fstat(fd).st_mode
        is_memory = path == MEMORY and self.is_whole and stat.S_ISCHR(mode)
        if not stat.S_ISREG(mode) and not is_memory:
            os.close(fd)
            raise PermissionError(0, "not a regular file")
        return fd

    def read(self, path: str, limit: int = READ_MAX) -> bytes | Unknown:
        found = self.head(path, limit + 1)
        if isinstance(found, bytes) and len(found) > limit:
            return Unknown(f"{path}: larger than {limit} bytes")
        return found

    def head(self, path: str, size: int) -> bytes | Unknown:
        parts: list[bytes] = []
        left = size
        try:
            fd = self.open(path)
            try:
                while left and (chunk := os.read(fd, min(left, 1 << 20))):
                    parts.append(chunk)
                    left -= len(chunk)
            finally:
                os.close(fd)
        except OSError as error:
            return unreadable(path, error)
        return b"".join(parts)

    def part(self, path: str, offset: int, size: int) -> bytes | Unknown:
        try:
            with open(self.open(path), "rb", buffering=0) as file:
                found = os.pread(file.fileno(), size, offset)
        except OverflowError:
            found = b""
        except OSError as error:
            return unreadable(path, error)
        if len(found) < size:
            return Unknown(f"{path}: does not have {size} bytes at {offset:#x}")
        return found

    def entries(self, path: str) -> tuple[str, ...] | Unknown:
        try:
            names = sorted(os.listdir(self.locate(path)))
        except OSError as error:
            return unreadable(path, error)
        if len(names) > ENTRIES_MAX:
            return Unknown(f"{path}: more than {ENTRIES_MAX} entries")
        return tuple(names)

    def exists(self, path: str) -> bool | Unknown:
        folder, _, name = path.rpartition("/")
        names = self.entries(folder)
        return names if isinstance(names, Unknown) else name in names

    def link(self, path: str) -> str | Unknown:
        folder, _, name = path.rpartition("/")
        try:
            found = f"{self.locate(folder)}/{name}"
            return os.readlink(found) if os.path.islink(found) else ""
        except OSError as error:
            return unreadable(path, error)

    def matching_lines(self, path: str, pattern: str) -> tuple[str, ...] | Unknown:
        wanted = re.compile(pattern.encode(), re.MULTILINE)
        found: list[str] = []
        left = LINES_MAX
        try:
            with open(self.open(path), "rb") as file:
                # Whole lines, many at a time: matching each line separately is five times slower.
                while block := file.read(1 << 20) + file.readline():
                    left -= len(block)
                    if left < 0:
                        return Unknown(f"{path}: larger than {LINES_MAX} bytes")
                    found += _lines_with(wanted, block)
        except OSError as error:
            return unreadable(path, error)
        return tuple(found)


def _lines_with(wanted: re.Pattern[bytes], block: bytes) -> Iterator[str]:
    """The lines of a block with a match, without line ends."""
    done = 0
    for match in wanted.finditer(block):
        if match.start() >= done:
            start = block.rfind(b"\n", 0, match.start()) + 1
            end = block.find(b"\n", match.start())
            done = len(block) if end < 0 else end + 1
            yield block[start:done].decode("utf-8", "replace").rstrip("\n")


THIS_MACHINE = Folder()


def unreadable(path: str, error: OSError) -> Unknown:
    """The reason, with the name of the file."""
    return Unknown(f"{path}: {(error.strerror or str(error)).lower()}")


def text(root: Root, path: str, limit: int = READ_MAX) -> str | Unknown:
    """A small file as text, without leading and trailing white space."""
    found = root.read(path, limit)
    if isinstance(found, Unknown):
        return found
    return found.decode("utf-8", "replace").strip()


def number(root: Root, path: str, base: int = 10) -> int | Unknown:
    """A file that contains one 64-bit number; base 16 with or without 0x."""
    found = text(root, path, 4096)
    if isinstance(found, Unknown):
        return found
    try:
        value = int(found, base)
    except ValueError:
        value = -ADDRESSES
    if not -ADDRESSES < value < ADDRESSES:
        return Unknown(f"{path}: not a number: {found[:40]!r}")
    return value


def numbers(root: Root, paths: Iterable[str], base: int = 10) -> tuple[int, ...] | Unknown:
    """The number of every path; or the reason for the first one without a number."""
    found: list[int] = []
    for path in paths:
        value = number(root, path, base)
        if isinstance(value, Unknown):
            return value
        found.append(value)
    return tuple(found)


def first_number(root: Root, *paths: str) -> int | Unknown:
    """The number of the first path that can be read: names vary between kernels. If none can, the
    reason is that of the last."""
    found: int | Unknown = Unknown("no path given")
    for path in paths:
        found = number(root, path)
        if not isinstance(found, Unknown):
            break
    return found


def flag(value: int | Unknown) -> bool | Unknown:
    """A number as a boolean."""
    return value if isinstance(value, Unknown) else value != 0
