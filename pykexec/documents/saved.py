"""pykexec.saved/1: what a capture kernel has saved; status.json in the folder of a dump."""

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
    """null where it succeeded"""
    seconds: float


@dataclass(frozen=True, slots=True)
class SavedFile:
    """the dump itself"""

    name: str
    writer: Annotated[str, WRITER]
    level: int | None
    """dump level of makedumpfile; null for a copy of all memory"""
    size: Count | None
    """bytes on the disk; null where a command got it"""
    whole: bool | None
    """what the checks found; null where the file cannot be read again, because it is encrypted or
    a command got it"""
    problem: str | None
    """the first check that failed"""


@dataclass(frozen=True, slots=True)
class SavedDump:
    """what a capture kernel has saved"""

    schema: ClassVar[str] = "pykexec.saved/1"
    name: str
    folder: str | None
    """as the capture kernel named it; null where only a command got the files"""
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
    """beside this one"""
    dump: SavedFile | None
    """null where only log and report were saved"""
    complete: bool
    """all steps succeeded, and no check found a problem"""
    steps: tuple[SaveStep, ...]
    problems: tuple[str, ...]
    """faults of the configuration, and what was done instead of what it says"""


@dataclass(frozen=True, slots=True)
class ListedDump:
    """the folder of a saved dump"""

    name: str
    folder: str
    complete: bool
    status: SavedDump | None
    """null where its status.json cannot be read"""
    problem: str | None
    """why it is not complete, or cannot be read"""


@dataclass(frozen=True, slots=True)
class SavedDumps:
    """what capture kernels have saved"""

    schema: ClassVar[str] = "pykexec.saved-dumps/1"
    folder: str
    dumps: tuple[ListedDump, ...]
    """oldest first; with --announce only those that are new"""
    lost: str | None
    """what is known of a crash that left no dump; null where there was none"""
