"""Standard streams whose errors are handled where they belong."""

from __future__ import annotations

import os
import sys
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

INTERRUPTED = 130
"""The status of a shell for a process that SIGINT ended."""
STDOUT = "standard output"
"""The file name in an OSError about it."""


def interrupted(name: str, status: int) -> int:
    """Print a message, even if nothing but this module is imported yet; returns the exit status."""
    print(f"{name}: interrupted", file=sys.stderr)
    return status


class Answers(FileIO):
    """Standard output, whose errors have its name."""

    def write(self, data: ReadableBuffer) -> int:
        try:
            return super().write(data)
        except OSError as error:
            error.filename = STDOUT
            raise


class Diagnostics(FileIO):
    """Standard error: output that cannot be written is lost, without any effect."""

    def write(self, data: ReadableBuffer) -> int:
        try:
            written: int | None = super().write(data)
        except OSError:
            written = None
        return memoryview(data).nbytes if written is None else written


def guard_streams() -> None:
    """Errors of standard error never reach a command; errors of standard output always do.

    A stream that the caller closed (`>&-`) is None in Python. Its descriptor is occupied, so that
    no file that is opened later gets it: input is at its end, and output cannot be written."""
    if sys.stdin is None:
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_RDWR))
    out = Answers(number(sys.stdout, os.O_RDONLY), "w", closefd=False)
    sys.stdout = _text_stream(out, sys.stdout, "strict")
    err = Diagnostics(number(sys.stderr, os.O_RDWR), "w", closefd=False)
    sys.stderr = _text_stream(err, sys.stderr, "backslashreplace")


def number(stream: TextIO | None, flags: int) -> int:
    """Its file descriptor; a new one for /dev/null if it is closed."""
    return os.open(os.devnull, flags) if stream is None else stream.fileno()


def _text_stream(raw: FileIO, like: TextIO | None, errors: str) -> TextIOWrapper:
    """With the encoding that Python chose, and always with a buffer: without one (PYTHONUNBUFFERED)
    a short write is not detected."""
    encoding = getattr(like, "encoding", None)
    errors = getattr(like, "errors", None) or errors
    by_line = isinstance(raw, Diagnostics) or raw.isatty()
    return TextIOWrapper(BufferedWriter(raw), encoding, errors, line_buffering=by_line)
