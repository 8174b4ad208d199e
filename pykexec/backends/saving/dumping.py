"""Writes the dump itself, with makedumpfile or as a copy. Runs inside `limited`."""

from __future__ import annotations

import mmap
import os
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext

from pykexec.backends.saving.destination import (
    MODE,
    Destination,
    named,
    opened,
    sync_file,
    write_all,
)
from pykexec.backends.saving.limited import StepFailed, how_ended
from pykexec.backends.saving.target import on_disk, sync_folder

PERCENT = re.compile(rb"Copying data\s*: \[\s*([0-9.]{1,6}) %\]")
CHUNK, HOLE = 1 << 20, 64 << 10
"""Bytes per read, and the size of zeros that become a hole."""
PAUSE = 0.5
"""Seconds between two checks of a running makedumpfile."""
TAIL = 4096
Watch = Callable[[float | None, int | None], None]
"""Called repeatedly with the finished part and the bytes written, as far as they are known; raises
to end the work."""


class NoRoom(StepFailed):
    """The limit of free space is reached."""

    code = "no-room"


def by_makedumpfile(
    words: Callable[[str | None], Sequence[str]], where: Destination, name: str, watch: Watch
) -> None:
    """Run makedumpfile; `words` makes the command line for a path, or for standard output. Raises
    StepFailed, OSError, and what `watch` raises."""
    path = where.path(name)
    with nullcontext(None) if path else opened(where, name) as out:
        command = words(path)
        program = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if path else out,
            stderr=subprocess.PIPE,
            umask=0o777 & ~MODE,
        )
        try:
            output = _followed(program, path, watch)
            if status := program.wait():
                reason = f": {output}" if output else ""
                raise StepFailed(f"{named(command)} {how_ended(status)}{reason}")
        finally:
            program.kill()
            program.wait()
    if path:
        sync_file(path)
        sync_folder(where.folder or ".")


def _followed(program: subprocess.Popen[bytes], path: str | None, watch: Watch) -> str:
    """Watch it until it closes its standard error; returns its last line there."""
    assert program.stderr
    fd = program.stderr.fileno()
    os.set_blocking(fd, False)
    tail = b""
    while True:
        try:
            part = os.read(fd, 1 << 16)
        except BlockingIOError:
            watch(_part_done(tail), written(path))
            time.sleep(PAUSE)
            continue
        if not part:
            break
        tail = (tail + part)[-TAIL:]
    lines = [line.strip() for line in re.split(rb"[\r\n]", tail) if line.strip()]
    lines = [line for line in lines if b"%]" not in line and b"Completed" not in line]
    return lines[-1].decode("utf-8", "backslashreplace")[:200] if lines else ""


def _part_done(output: bytes) -> float | None:
    """The finished part of the copying, which takes nearly all of the time; 1 is all."""
    found = PERCENT.findall(output)
    return float(found[-1]) / 100 if found else None


def written(path: str | None) -> int | None:
    """Bytes of the file that are on disk."""
    try:
        return on_disk(path) if path else None
    except OSError:
        return None


def by_copy(source: str, where: Destination, name: str, watch: Watch) -> int:
    """Copy the file, with zeros as holes if the destination supports them. Returns the number of
    pages that could not be read, which become zeros. Raises StepFailed, OSError."""
    lost = done = 0
    sparse = where.path(name) is not None
    with open(source, "rb", buffering=0) as file, opened(where, name) as out:
        size = os.fstat(file.fileno()).st_size
        while done < size:
            data, bad = _read_chunk(file.fileno(), done, min(CHUNK, size - done))
            lost += bad
            _put(out, data, sparse)
            done += len(data)
            watch(done / size, None)
        if sparse:
            os.ftruncate(out, size)
    return lost


def _put(out: int, data: bytes, sparse: bool) -> None:
    if not sparse:
        write_all(out, data)
        return
    for at in range(0, len(data), HOLE):
        piece = data[at : at + HOLE]
        if piece.strip(b"\0"):
            write_all(out, piece)
        else:
            os.lseek(out, len(piece), os.SEEK_CUR)


def _read_chunk(fd: int, offset: int, size: int) -> tuple[bytes, int]:
    """`size` bytes, and how many pages of them could not be read. Raises StepFailed if the file has
    become shorter."""
    try:
        return _exactly(fd, offset, size), 0
    except OSError:
        pages, lost = [], 0
        for at in range(0, size, mmap.PAGESIZE):
            length = min(mmap.PAGESIZE, size - at)
            try:
                pages.append(_exactly(fd, offset + at, length))
            except OSError:
                pages.append(bytes(length))
                lost += 1
        return b"".join(pages), lost


def _exactly(fd: int, offset: int, size: int) -> bytes:
    parts, left = [], size
    while left:
        part = os.pread(fd, left, offset + size - left)
        if not part:
            raise StepFailed(f"the source ends at {offset + size - left:#x}")
        parts.append(part)
        left -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
