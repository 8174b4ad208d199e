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
CPU_LINE = re.compile(rb"CPU: (\d{1,5}) (?:UID: \d+ )?PID: \d+ Comm: ")
HARDWARE = re.compile(rb"Hardware name: (.+)")
"""dump_stack_print_info, for an oops or a panic."""
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
    cpu: int | None = None
    """The CPU of the panic."""
    hardware: str | None = None


class _Reader:
    """What the records so far show."""

    def __init__(self) -> None:
        self.message: str | None = None
        self.cause: str | None = None
        self.cpu: int | None = None
        self.hardware: str | None = None
        self.cause_at = 0
        self.asked = True
        """Whether the next CPU line is that of the cause or the panic."""

    def add(self, text: bytes, now: int) -> None:
        if found := HARDWARE.match(text):
            self.hardware = _decoded(found[1])
        elif (found := CPU_LINE.match(text)) and self.asked:
            self.cpu, self.asked = int(found[1]), False
        elif self.message is not None:
            return
        elif found := PANIC.match(text):
            self.message, self.asked = _decoded(found[1]), True
            if now - self.cause_at > CAUSE_SECONDS * 10**9:
                self.cause = self.cpu = None
        elif CAUSE.match(text):
            self.cause, self.cause_at = _decoded(text.partition(b"\n")[0]), now
            self.asked = True


def read_end(records: Iterable[Record]) -> LogEnd:
    """Reads the complete log, and keeps its end."""
    lines: deque[bytes] = deque(maxlen=LAST_LINES)
    reader, now, count, problem = _Reader(), None, 0, None
    try:
        for record in records:
            count += 1
            now = record.nanoseconds if record.nanoseconds is not None else now
            ends = record.text.rsplit(b"\n", LAST_LINES)[-LAST_LINES:]
            lines.extend(record.stamp + line[:LINE_MAX] for line in ends)
            reader.add(record.text, now or 0)
    except KexecError as error:
        problem = error.message
    return LogEnd(
        reader.message, reader.cause, now, count, tuple(lines), problem, reader.cpu, reader.hardware
    )


def _decoded(text: bytes) -> str:
    return text[:LINE_MAX].decode("utf-8", "backslashreplace")
