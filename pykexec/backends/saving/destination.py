"""Where a file of a dump goes: into a folder, or to the standard input of a command; encrypted with
age if a recipient is given. Everything here runs inside `limited`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from pykexec.backends.saving.limited import StepFailed, how_ended
from pykexec.backends.saving.target import sync_folder

AGE = "age"
ENDING = ".age"
MODE = 0o600
"""A dump contains the secrets of all users."""


@dataclass(frozen=True, slots=True)
class Destination:
    """`folder` is the folder of this dump. With `command`, in which %d is the dump's name and %f
    the file's name, files go there."""

    name: str
    folder: str | None = None
    command: tuple[str, ...] | None = None
    recipient: str | None = None

    def file_name(self, name: str) -> str:
        return name + ENDING if self.recipient else name

    def path(self, name: str) -> str | None:
        """The path of a file that can be written directly, or None."""
        if self.command or self.recipient or self.folder is None:
            return None
        return f"{self.folder}/{name}"


@contextmanager
def opened(where: Destination, name: str) -> Iterator[int]:
    """A descriptor for the contents of a file. At the end everything is on disk, or the commands
    have succeeded. Raises StepFailed, OSError."""
    programs: list[subprocess.Popen[bytes]] = []
    file_name = where.file_name(name)
    if where.command:
        last = start([replaced(word, where.name, file_name) for word in where.command], None)
        programs.append(last)
        end = _input_of(last)
    else:
        end = _new_file(f"{where.folder}/{file_name}")
    try:
        writer = end
        if where.recipient:
            first = start([AGE, "-r", where.recipient], end)
            programs.insert(0, first)
            if where.command:
                os.close(end)
            writer = _input_of(first)
        try:
            yield writer
        finally:
            if writer != end or where.command:
                os.close(writer)
        for program in programs:
            _ended(program)
        if not where.command:
            os.fsync(end)
            sync_folder(where.folder or ".")
    finally:
        for program in programs:
            with suppress(OSError):
                program.kill()
        if not where.command:
            os.close(end)


def replaced(word: str, folder: str, file: str) -> str:
    """The words with %d and %f replaced; %% is a percent sign."""
    parts = word.split("%%")
    return "%".join(part.replace("%d", folder).replace("%f", file) for part in parts)


def start(words: Sequence[str], stdout: int | None) -> subprocess.Popen[bytes]:
    """Start a program. Raises OSError if it does not exist."""
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=stdout)


def _input_of(program: subprocess.Popen[bytes]) -> int:
    """The standard input of a program, which the caller has to close."""
    assert program.stdin
    with program.stdin as pipe:
        return os.dup(pipe.fileno())


def _ended(program: subprocess.Popen[bytes]) -> None:
    """Wait until a program ends. Raises StepFailed if it fails."""
    if status := program.wait():
        raise StepFailed(f"{named(program.args)} {how_ended(status)}")


def named(words: object) -> str:
    return str(words[0]) if isinstance(words, list | tuple) else str(words)


def _new_file(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)


def sync_file(path: str) -> None:
    """Sync a file that another program has written."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_file(where: Destination, name: str, data: bytes) -> int:
    """Write a complete file; returns its size. Raises StepFailed, OSError."""
    with opened(where, name) as fd:
        write_all(fd, data)
    return len(data)


def write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
