"""The messages that the guests of a rehearsal send: the fields of `send` in first and capture."""

from __future__ import annotations

from dataclasses import dataclass

from pykexec.documents.base import Count
from pykexec.documents.plan import PlanDocument
from pykexec.dump.vmcore_pages import PatternCount


@dataclass(frozen=True, slots=True)
class Refused:
    """An error that ended a guest."""

    code: str
    message: str
    hint: str | None


@dataclass(frozen=True, slots=True)
class GuestDump:
    """/proc/vmcore: its size in bytes, the bytes before the memory (base64), and the pages of the
    pattern in it."""

    size: Count
    head: str
    patterns: PatternCount


@dataclass(frozen=True, slots=True)
class GuestMessages:
    """Everything that the guests have sent; None for what is missing. `filled` is in pages;
    `status` is the exit status of a refused load."""

    plan: PlanDocument | None = None
    warnings: tuple[str, ...] = ()
    filled: Count | None = None
    cpus: Count | None = None
    dump: GuestDump | None = None
    refused: Refused | None = None
    status: int = 1
