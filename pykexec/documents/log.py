"""pykexec.log/1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class LogRecord:
    """a record; null is what this kind of log does not keep"""

    sequence: int | None
    """null before Linux 5.10, which keeps none in a record"""
    nanoseconds: int | None
    """since the boot; null before Linux 3.5, which has the time in the text"""
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
    """the damage at which reading ended; null for a whole log"""
    records: tuple[LogRecord, ...]
