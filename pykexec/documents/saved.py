"""pykexec.saved/1: what a capture kernel saved; status.json in the folder of a dump."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pykexec.documents.base import Choice, Count

WRITER = Choice(("makedumpfile", "copy"))


@dataclass(frozen=True, slots=True)
class SaveStep:
    """one of the steps, in the order in which they were tried"""

    name: str
    problem: str | None
    """null if it succeeded"""
    seconds: float


@dataclass(frozen=True, slots=True)
class SavedFile:
    """the dump itself"""

    name: str
    writer: Annotated[str, WRITER]
    level: int | None
    """dump level of makedumpfile; null for a copy of all memory"""
    size: Count | None
    """bytes on disk; null if a command got it"""
    whole: bool | None
    """the result of the checks; null if the file cannot be read again, because it is encrypted or a
    command got it"""
    problem: str | None
    """the first check that failed"""


@dataclass(frozen=True, slots=True)
class SavedDump:
    """what a capture kernel saved"""

    schema: ClassVar[str] = "pykexec.saved/1"
    name: str
    folder: str | None
    """its path in the capture kernel; null if only a command got the files"""
    command: str | None
    """the program that got the files"""
    encrypted: bool
    release: str | None
    reason: str | None
    """the panic message"""
    crashed: str | None
    """ISO 8601, UTC"""
    saved: str
    """ISO 8601, UTC"""
    files: tuple[str, ...]
    """files besides this one"""
    dump: SavedFile | None
    """null if only log and report were saved"""
    complete: bool
    """whether all steps succeeded, and no check found a problem"""
    steps: tuple[SaveStep, ...]
    problems: tuple[str, ...]
    """errors in the configuration, and deviations from it"""


@dataclass(frozen=True, slots=True)
class ListedDump:
    """the folder of a saved dump"""

    name: str
    folder: str
    complete: bool
    status: SavedDump | None
    """null if its status.json cannot be read"""
    problem: str | None
    """why it is not complete, or cannot be read"""


@dataclass(frozen=True, slots=True)
class SavedDumps:
    """what capture kernels have saved"""

    schema: ClassVar[str] = "pykexec.saved-dumps/1"
    folder: str
    dumps: tuple[ListedDump, ...]
    """oldest first; with --announce only new ones"""
    lost: str | None
    """what is known about a crash without a dump; null if there was none"""
