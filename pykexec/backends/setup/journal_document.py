"""pykexec.setup-journal/1: the contents of /var/lib/pykexec/setup.json, for pykexec itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class JournalState:
    """what there was at a path: text, bytes, a link, or nothing"""

    text: str | None = None
    base64: str | None = None
    link: str | None = None
    mode: int = 0
    owner: tuple[int, int] | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    """extended attributes, their values in base64"""


@dataclass(frozen=True, slots=True)
class JournalChange:
    """a file that was changed"""

    path: str
    before: JournalState
    after: JournalState
    folders: tuple[str, ...]
    """made for it, outermost first"""
    edited: bool = False
    """whether somebody changed it between two runs"""
    may_vanish: bool = False
    """whether others may remove it"""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """a step that was begun"""

    name: str
    why: str
    done: bool
    changes: tuple[JournalChange, ...]
    before: tuple[tuple[str, ...], ...]
    after: tuple[tuple[str, ...], ...]
    undo_before: tuple[tuple[str, ...], ...]
    undo_after: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class JournalDocument:
    """what pykexec setup has changed, and how it was before"""

    schema: ClassVar[str] = "pykexec.setup-journal/1"
    folders: tuple[str, ...]
    kept: tuple[str, ...]
    steps: tuple[JournalEntry, ...]
