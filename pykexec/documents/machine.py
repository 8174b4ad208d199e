"""pykexec.machine/1, pykexec.captured/1, and pykexec.capture/1: the captured file itself."""

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


@dataclass(frozen=True, slots=True)
class CapturedContents:
    """contents of a file, as text or as base64 if it is not text; or why they are unknown"""

    unknown: str | None = None
    text: str | None = None
    base64: str | None = None


@dataclass(frozen=True, slots=True)
class CapturedNames:
    """entries of a folder, or why they are unknown"""

    unknown: str | None = None
    entries: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Capture:
    """contents of /proc and /sys of a machine, by absolute path"""

    schema: ClassVar[str] = "pykexec.capture/1"
    files: dict[str, CapturedContents]
    folders: dict[str, CapturedNames]
