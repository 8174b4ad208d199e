"""What `pykexec setup` has changed, recorded before it is changed: /var/lib/pykexec/setup.json."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING

from pykexec.backends.kernel.state_file import StateFile
from pykexec.backends.setup.files import make_folders, put, remove_folders
from pykexec.backends.setup.journal_document import (
    JournalChange,
    JournalDocument,
    JournalEntry,
    JournalState,
)
from pykexec.backends.setup.step import Change, Command, Step
from pykexec.documents.codec import plain
from pykexec.errors import KexecError
from pykexec.frozen import dataclass
from pykexec.host.file_state import NOTHING, FileState, file_with, missing_folders

if TYPE_CHECKING:
    from pykexec.host.root import Folder

FOLDER = "/var/lib/pykexec"
NAME = "setup.json"
PATH = f"{FOLDER}/{NAME}"


class BadSetupJournal(KexecError):
    """A journal that was not written by pykexec setup."""

    code = "bad-setup-journal"


@dataclass(frozen=True, slots=True)
class Entry:
    """A step, and whether it was completed."""

    step: Step
    done: bool


@dataclass(frozen=True, slots=True)
class Record:
    """`entries` in the order in which the steps were begun. `folders` were made for the journal,
    and `kept` are the names that were in its folder before."""

    entries: tuple[Entry, ...]
    folders: tuple[str, ...]
    kept: tuple[str, ...]

    def entry(self, name: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.step.name == name), None)

    def having(self, step: Step, done: bool) -> Record:
        """With this step instead of the one of the same name, or behind the others."""
        new = Entry(step, done)
        if self.entry(step.name) is None:
            return Record((*self.entries, new), self.folders, self.kept)
        found = (new if entry.step.name == step.name else entry for entry in self.entries)
        return Record(tuple(found), self.folders, self.kept)

    def without(self, name: str) -> Record:
        left = (entry for entry in self.entries if entry.step.name != name)
        return Record(tuple(left), self.folders, self.kept)


class SetupJournal(StateFile[Record, JournalDocument]):
    """Rewritten, and flushed to the disk, before and after every step."""

    name, kind, what = NAME, JournalDocument, "journal"
    bad = BadSetupJournal
    remedy = "restore it from a backup; without it, nothing can be undone automatically"

    def __init__(self, root: Folder) -> None:
        self.root = root
        super().__init__(root.path / FOLDER.lstrip("/"))

    def read_or_new(self) -> Record:
        """The record, or that of a machine on which nothing was changed. Raises BadSetupJournal,
        NotPermitted."""
        found = self.read()
        if found is not None:
            return found
        place = self.root.locate(FOLDER)
        names = os.listdir(place) if os.path.isdir(place) else []
        return Record((), missing_folders(self.root, PATH), tuple(sorted(names)))

    def write(self, value: Record) -> None:
        make_folders(self.root, value.folders)
        text = json.dumps(plain(self.encode(value)), indent=1) + "\n"
        put(self.root, PATH, file_with(text, mode=0o600))

    def remove(self) -> None:
        record = self.read()
        put(self.root, PATH, NOTHING)
        remove_folders(self.root, record.folders if record else ())

    def encode(self, value: Record) -> JournalDocument:
        return JournalDocument(
            value.folders, value.kept, tuple(_encode(entry) for entry in value.entries)
        )

    def decode(self, found: JournalDocument) -> Record:
        return Record(tuple(_decode(entry) for entry in found.steps), found.folders, found.kept)


def _encode(entry: Entry) -> JournalEntry:
    step = entry.step
    return JournalEntry(
        step.name,
        step.why,
        entry.done,
        tuple(
            JournalChange(
                change.path,
                _encode_state(change.before),
                _encode_state(change.after),
                change.folders,
                change.edited,
                change.may_vanish,
            )
            for change in step.changes
        ),
        *(step.before, step.after, step.undo_before, step.undo_after),
    )


def _decode(found: JournalEntry) -> Entry:
    changes = (
        Change(
            _absolute(item.path),
            _decode_state(item.before),
            _decode_state(item.after),
            tuple(map(_absolute, item.folders)),
            item.edited,
            item.may_vanish,
        )
        for item in found.changes
    )
    commands: tuple[tuple[Command, ...], ...] = (
        *(found.before, found.after),
        *(found.undo_before, found.undo_after),
    )
    if not all(command for group in commands for command in group):
        raise ValueError("a command without a program")
    return Entry(Step(found.name, found.why, tuple(changes), *commands), found.done)


def _absolute(path: str) -> str:
    if not path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise ValueError(f"not an absolute path: {path[:60]!r}")
    return path


def _encode_state(state: FileState) -> JournalState:
    if state.link is not None:
        return JournalState(link=state.link)
    if state.contents is None:
        return JournalState()
    more = {name: _packed(value) for name, value in state.attributes}
    try:
        text = state.contents.decode()
        return JournalState(text=text, mode=state.mode, owner=state.owner, attributes=more)
    except UnicodeDecodeError:
        packed = _packed(state.contents)
        return JournalState(base64=packed, mode=state.mode, owner=state.owner, attributes=more)


def _packed(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decode_state(found: JournalState) -> FileState:
    """Raises ValueError."""
    if found.link is not None:
        return FileState(link=found.link)
    if found.text is not None:
        contents = found.text.encode()
    elif found.base64 is not None:
        contents = base64.b64decode(found.base64, validate=True)
    else:
        return NOTHING
    attributes = found.attributes.items()
    more = tuple((name, base64.b64decode(value, validate=True)) for name, value in attributes)
    return FileState(contents, None, found.mode, found.owner or (0, 0), more)
