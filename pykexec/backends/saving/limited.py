"""Runs work in a child process with a time limit."""

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
"""Limit for the bytes of JSON."""
KILLED_SECONDS = 5.0
"""How long to wait for a killed child: one in uninterruptible sleep, as for a disk that does not
respond, is left behind."""
FAILED = 1


class StepFailed(KexecError):
    """A step did not succeed: it failed, took too long, or its process was killed."""

    code = "step-failed"
    usual_hint = "check the keys SAVE_* in /etc/pykexec.conf; pykexec(8) describes them"


def limited(work: Callable[[], Any], seconds: float) -> Any:
    """The result of `work`, as JSON. It runs in a child process that leads a process group, of
    which every process is killed at the end. Raises StepFailed."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        os.close(reader)
        _run_child(work, writer)
    os.close(writer)
    with suppress(OSError):
        os.setpgid(child, child)  # in both processes, because either may run first
    try:
        answer = _read_all(reader, time.monotonic() + seconds)
    finally:
        os.close(reader)
        with suppress(OSError):
            os.killpg(child, signal.SIGKILL)
        status = _waited(child)
    if answer is None:
        raise StepFailed(f"not finished after {seconds:g} s", timed_out=True)
    return _result_of(answer, status)


def _run_child(work: Callable[[], Any], writer: int) -> None:
    """Write the result, or the error, and end the process."""
    status = FAILED
    try:
        os.setpgid(0, 0)
        with suppress(OSError):  # the process that waits is the last one to be killed
            Path("/proc/self/oom_score_adj").write_text("0")
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        try:
            answer = {"result": work()}
        except KexecError as error:
            answer = {"error": error.message}
        except OSError as error:
            what = f"{error.filename}: " if error.filename else ""
            answer = {"error": f"{what}{(error.strerror or str(error)).lower()}"}
        except MemoryError:
            answer = {"error": "not enough memory"}
        _write_all(writer, json.dumps(answer).encode())
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
    """Everything up to the end, or None if that does not come in time."""
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
    """How it ended, as in os.waitstatus_to_exitcode; None if it does not end."""
    deadline = time.monotonic() + KILLED_SECONDS
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return None


def _result_of(answer: bytes, status: int | None) -> Any:
    """Raises StepFailed."""
    try:
        found = json.loads(answer)
    except ValueError:
        how = "does not end" if status is None else how_ended(status)
        raise StepFailed(f"its process {how}") from None
    if "error" in found:
        raise StepFailed(found["error"])
    return found["result"]


def how_ended(status: int) -> str:
    """How a failed process ended; a negative number is a signal."""
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:  # of the real-time signals only the first and the last have one
            name = f"signal {-status}"
        return f"was killed by {name}"
    return f"failed with exit status {status}"
