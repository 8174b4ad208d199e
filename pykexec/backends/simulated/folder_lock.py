"""One pykexec at a time on a machine's folder."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pykexec.backends.simulated.files import open_own
from pykexec.errors import KexecError

LOCK = "lock"
LOCK_WAIT, LOCK_STEP = 2.0, 0.05
"""Seconds until another one's lock is taken for a refusal."""


class MachineBusy(KexecError):
    """Another pykexec works on it."""

    code = "machine-busy"


@contextmanager
def locked(folder: Path, *, exclusive: bool) -> Iterator[None]:
    """Readers share, a writer is alone (flock). Raises MachineBusy, OSError.

    The lock file stays: removing it would give two processes a lock each.
    """
    try:
        fd = open_own(folder / LOCK, os.O_RDWR | os.O_CREAT)
    except PermissionError:
        fd = open_own(folder / LOCK, os.O_RDONLY)
    try:
        kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        deadline = time.monotonic() + LOCK_WAIT
        while not try_lock(fd, kind):
            if time.monotonic() > deadline:
                raise MachineBusy(
                    f"{folder}: another pykexec works on this machine", hint="try again"
                )
            time.sleep(LOCK_STEP)
        yield
    finally:
        os.close(fd)


def try_lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
