"""One pykexec at a time in a folder: a lock that the kernel releases when its holder dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pykexec.errors import KexecError, NotPermitted

RUN_FOLDER = Path("/run/pykexec")
LOCK = "lock"
WAIT, STEP = 2.0, 0.05
"""Seconds to wait for the lock of another process, and between two attempts."""


class Busy(KexecError):
    """Another pykexec holds the lock."""

    code = "busy"


class NoLocks(KexecError):
    """The kernel or the file system does not support locks."""

    code = "no-locks"


@contextmanager
def exclusive(folder: Path = RUN_FOLDER) -> Iterator[int]:
    """Hold the lock of this folder, which is created (mode 0700) if it does not exist, and give
    its descriptor: a process that inherits it holds the lock as well. Raises NotPermitted, Busy,
    NoLocks."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = _open_lock(folder)
    except OSError as error:
        raise NotPermitted(
            f"{folder}: {(error.strerror or str(error)).lower()}", hint="run as root"
        ) from error
    with _held(fd, folder, fcntl.LOCK_EX):
        yield fd


@contextmanager
def locked(folder: Path, *, alone: bool) -> Iterator[None]:
    """Hold a shared lock, or an exclusive one if `alone`. Raises Busy, NoLocks, OSError."""
    with _held(_open_lock(folder), folder, fcntl.LOCK_EX if alone else fcntl.LOCK_SH):
        yield


def _open_lock(folder: Path) -> int:
    """Open the lock file, which is never removed: otherwise two processes could each hold a
    lock."""
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(folder / LOCK, flags | os.O_RDWR | os.O_CREAT, 0o644)
    except PermissionError:  # it belongs to another user, but may be readable
        return os.open(folder / LOCK, flags | os.O_RDONLY)


@contextmanager
def _held(fd: int, folder: Path, kind: int) -> Iterator[None]:
    """Hold flock(2) on the descriptor, and close it at the end."""
    try:
        deadline = time.monotonic() + WAIT
        while not _try_lock(fd, folder, kind):
            if time.monotonic() > deadline:
                raise Busy(
                    f"{folder}: another pykexec is running", hint="wait until it has finished"
                )
            time.sleep(STEP)
        yield
    finally:
        os.close(fd)


def _try_lock(fd: int, folder: Path, kind: int) -> bool:
    """Whether this process holds the lock now. A kernel without CONFIG_FILE_LOCKING has no
    flock(2), and a network file system may have no locks (ENOLCK)."""
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise NoLocks(
            f"{folder / LOCK}: cannot be locked: {(error.strerror or str(error)).lower()}",
            hint="use a kernel and a file system that support flock(2)",
        ) from error
    return True
