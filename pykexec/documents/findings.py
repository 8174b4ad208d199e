"""pykexec.doctor/1, pykexec.explanation/1 and pykexec.diff/1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pykexec.documents.base import Choice, Count, Hex, Length, Sha256

CHANGE = Choice(("moved", "resized", "contents", "added", "removed"))
NOT_EMPTY = Length(1)


@dataclass(frozen=True, slots=True)
class DoctorRow:
    """a precondition"""

    name: str
    level: Literal["ok", "warn", "fail", "unknown"]
    evidence: str
    fix: str | None


@dataclass(frozen=True, slots=True)
class Doctor:
    """every precondition of a machine"""

    schema: ClassVar[str] = "pykexec.doctor/1"
    machine: str
    problems: Count
    rows: tuple[DoctorRow, ...]


@dataclass(frozen=True, slots=True)
class ExplainedCheck:
    """a check of the kernel"""

    syscall: str
    stage: str
    errno: str
    check: str
    fix: str
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ExplainedError:
    """an error code of pykexec"""

    code: str
    meaning: str
    exit_status: int


@dataclass(frozen=True, slots=True)
class ExplainedRule:
    """a rule of a plan, and what the kernel returns if it is broken"""

    rule: str
    ok: bool | None
    detail: str
    answer: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """what an errno or a code means"""

    schema: ClassVar[str] = "pykexec.explanation/1"
    word: str
    kernel_checks: tuple[ExplainedCheck, ...]
    error: ExplainedError | None
    """null for an errno"""
    plan: tuple[ExplainedRule, ...] | None
    """null without one"""


@dataclass(frozen=True, slots=True)
class FieldDifference:
    """a field"""

    field: str
    a: str | None
    b: str | None


@dataclass(frozen=True, slots=True)
class ComparedPiece:
    """a segment of one plan"""

    bufsz: Count
    mem: Hex
    memsz: Count
    sha256: Sha256 | None


@dataclass(frozen=True, slots=True)
class PieceDifference:
    """a segment that differs between the plans"""

    name: str
    what: Annotated[tuple[Annotated[str, CHANGE], ...], NOT_EMPTY]
    a: ComparedPiece | None
    b: ComparedPiece | None


@dataclass(frozen=True, slots=True)
class Difference:
    """the differences between two plans; null if a plan lacks the item"""

    schema: ClassVar[str] = "pykexec.diff/1"
    same: bool
    fields: tuple[FieldDifference, ...]
    segments: tuple[PieceDifference, ...]
