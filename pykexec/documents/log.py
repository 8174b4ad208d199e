"""pykexec.log/1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class LogRecord:
    """a record; null for fields that this log format lacks"""

    sequence: int | None
    """null before Linux 5.10"""
    nanoseconds: int | None
    """since boot; null before Linux 3.5, where the text contains the time"""
    facility: int | None
    level: int | None
    """as in syslog: 0 emergency to 7 debug"""
    text: str
    r"""a byte that is not UTF-8 is shown as \xNN"""


@dataclass(frozen=True, slots=True)
class Log:
    """the log of the kernel that crashed, oldest record first"""

    schema: ClassVar[str] = "pykexec.log/1"
    release: str
    problem: str | None
    """the damage at which reading ended; null for a complete log"""
    records: tuple[LogRecord, ...]
