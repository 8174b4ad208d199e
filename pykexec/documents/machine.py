"""pykexec.machine/1 and pykexec.captured/1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pykexec.documents.base import Count, Span
from pykexec.documents.plan import MapEntry


@dataclass(frozen=True, slots=True)
class SimulatedMachine:
    """a simulated machine, and what each of its frames is used for"""

    schema: ClassVar[str] = "pykexec.machine/1"
    memory_map: tuple[MapEntry, ...]
    in_use: tuple[Span, ...]
    free: tuple[Span, ...]
    kernel: tuple[Span, ...]
    images: tuple[Span, ...]
    reservation: Span | None


@dataclass(frozen=True, slots=True)
class CapturedFile:
    """a file of facts was written"""

    schema: ClassVar[str] = "pykexec.captured/1"
    file: str
    files: Count
    folders: Count
    unreadable: tuple[str, ...]
