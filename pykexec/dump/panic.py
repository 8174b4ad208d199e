"""Why the kernel crashed, according to its log; and the log's last lines."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykexec.errors import KexecError

if TYPE_CHECKING:
    from pykexec.dump.log_record import Record

LAST_LINES = 60
PANIC = re.compile(rb"Kernel panic - not syncing: (.*)")
CAUSE = re.compile(
    rb"BUG: |Oops: |kernel BUG at |general protection fault|Unable to handle kernel|"
    rb"watchdog: BUG: |NMI watchdog: Watchdog detected|INFO: task .* blocked for more|"
    rb"Out of memory: |(?:divide error|invalid opcode|stack segment|double fault|int3): |"
    rb"Kernel stack is corrupted|"
    rb"mce: \[Hardware Error\]|Internal error: "
)
"""What the kernel prints before a panic whose own message says little ("Fatal exception")."""
CAUSE_SECONDS = 10
"""At most this long before the panic: older messages did not lead to it."""
LINE_MAX = 1000


@dataclass(frozen=True)
class LogEnd:
    """`message` of the panic and `cause` before it, None if the log has none; `nanoseconds` from
    boot to the last record. `problem` says why reading the log ended early."""

    message: str | None
    cause: str | None
    nanoseconds: int | None
    records: int
    lines: tuple[bytes, ...]
    problem: str | None


def read_end(records: Iterable[Record]) -> LogEnd:
    """Reads the complete log, and keeps its end."""
    lines: deque[bytes] = deque(maxlen=LAST_LINES)
    message, cause, cause_at, now, count = None, None, 0, None, 0
    problem = None
    try:
        for record in records:
            count += 1
            now = record.nanoseconds if record.nanoseconds is not None else now
            lines.extend(line[:LINE_MAX] for line in record.lines())
            if message is not None:
                continue
            if found := PANIC.match(record.text):
                message = _decoded(found[1])
                if (now or 0) - cause_at > CAUSE_SECONDS * 10**9:
                    cause = None
            elif CAUSE.match(record.text):
                cause, cause_at = _decoded(record.text.partition(b"\n")[0]), now or 0
    except KexecError as error:
        problem = error.message
    return LogEnd(message, cause, now, count, tuple(lines), problem)


def _decoded(text: bytes) -> str:
    return text[:LINE_MAX].decode("utf-8", "backslashreplace")
