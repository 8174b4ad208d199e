"""A piece of work in a child process and in limited time."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pykexec.errors import KexecError

RESULT_MAX = 1 << 20
"""Bytes of JSON."""
KILLED_SECONDS = 5.0
"""How long to wait for a killed child: one in uninterruptible sleep, as of a disk that does not
answer, is left behind."""
FAILED = 1


class StepFailed(KexecError):
    """A step came to no good end: it failed, took too long, or its process was killed."""

    code = "step-failed"
    usual_hint = "check the keys SAVE_* in /etc/pykexec.conf; pykexec(8) describes them"


def limited(work: Callable[[], Any], seconds: float) -> Any:
    """What `work` gives, as JSON has it. It runs in a child process that leads a process group, in
    which all is killed at the end. Raises StepFailed."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        os.close(reader)
        _run_child(work, writer)
    os.close(writer)
    with suppress(OSError):
        os.setpgid(child, child)  # whoever is first
    try:
        said = _read_all(reader, time.monotonic() + seconds)
    finally:
        os.close(reader)
        with suppress(OSError):
            os.killpg(child, signal.SIGKILL)
        status = _waited(child)
    if said is None:
        raise StepFailed(f"not finished after {seconds:g} s", timed_out=True)
    return _result_of(said, status)


def _run_child(work: Callable[[], Any], writer: int) -> None:
    """Writes the result, or the error, and ends the process."""
    status = FAILED
    try:
        os.setpgid(0, 0)
        with suppress(OSError):  # the process that waits is the last one to be killed
            Path("/proc/self/oom_score_adj").write_text("0")
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        try:
            said = {"result": work()}
        except KexecError as error:
            said = {"error": error.message}
        except OSError as error:
            what = f"{error.filename}: " if error.filename else ""
            said = {"error": f"{what}{(error.strerror or str(error)).lower()}"}
        except MemoryError:
            said = {"error": "not enough memory"}
        _write_all(writer, json.dumps(said).encode())
        status = 0
    finally:
        if status:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _read_all(fd: int, deadline: float) -> bytes | None:
    """All up to the end, or None if that does not come in time."""
    parts = bytearray()
    while len(parts) <= RESULT_MAX:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            return None
        part = os.read(fd, 1 << 16)
        if not part:
            break
        parts += part
    return bytes(parts)


def _waited(child: int) -> int | None:
    """How it has ended, as os.waitstatus_to_exitcode has it; None for one that does not end."""
    deadline = time.monotonic() + KILLED_SECONDS
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return None


def _result_of(said: bytes, status: int | None) -> Any:
    """Raises StepFailed."""
    try:
        found = json.loads(said)
    except ValueError:
        how = "does not end" if status is None else how_ended(status)
        raise StepFailed(f"its process {how}") from None
    if "error" in found:
        raise StepFailed(found["error"])
    return found["result"]


def how_ended(status: int) -> str:
    """Of a process that failed; a negative number is a signal."""
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"failed with exit status {status}"
