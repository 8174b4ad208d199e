"""One line of a diagnosis, suitable for pasting into a bug report."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pykexec.machine import Unknown
    from pykexec.remedies import Advice


class Level(StrEnum):
    """`warn` does not prevent a load, `fail` does."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Row:
    """`evidence` is what was read, with its file; `fix` is "" if nothing needs to be done."""

    name: str
    level: Level
    evidence: str
    fix: Advice = ""

    def __str__(self) -> str:
        remedy = f" -> {self.fix}" if self.fix else ""
        return f"{self.level.value:7} {self.name}: {self.evidence}{remedy}"


def ok(name: str, evidence: str) -> Row:
    return Row(name, Level.OK, evidence)


def warn(name: str, evidence: str, fix: Advice) -> Row:
    return Row(name, Level.WARN, evidence, fix)


def fail(name: str, evidence: str, fix: Advice) -> Row:
    return Row(name, Level.FAIL, evidence, fix)


def unknown(name: str, fact: Unknown, fix: Advice = "") -> Row:
    return Row(name, Level.UNKNOWN, fact.why, fix)


def in_mib(size: int) -> str:
    """Bytes in readable form: MiB from 1 MiB up, KiB below."""
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"
