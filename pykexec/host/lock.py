"""One pykexec at a time: a lock that the kernel drops when its holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pykexec.errors import KexecError, NotPermitted

RUN_FOLDER = Path("/run/pykexec")


class Busy(KexecError):
    """Another pykexec holds the lock."""

    code = "busy"


@contextmanager
def exclusive(folder: Path = RUN_FOLDER) -> Iterator[None]:
    """Hold the lock of this folder, which is made (mode 0700) when it is not there."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(folder / "lock", flags, 0o600)
    except OSError as error:
        raise NotPermitted(
            f"{folder}: {(error.strerror or str(error)).lower()}", hint="run as root"
        ) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy(
                f"{folder}/lock: another pykexec is at work", hint="wait until it is done"
            ) from error
        yield
    finally:
        os.close(fd)
