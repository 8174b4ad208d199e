"""A step of `pykexec setup` as a value: what it changes, and how to undo it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pykexec.frozen import dataclass

if TYPE_CHECKING:
    from pykexec.host.file_state import FileState

Command = tuple[str, ...]
"""A program and its arguments; no shell is involved."""


@dataclass(frozen=True, slots=True)
class Change:
    """A file becomes `after`. `folders` do not exist yet, and are made for it, outermost first. An
    undo leaves a file that somebody `edited` between two runs; and one that `may_vanish`, such as a
    boot loader entry with its kernel, it does not bring back."""

    path: str
    before: FileState
    after: FileState
    folders: tuple[str, ...] = ()
    edited: bool = False
    may_vanish: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """First the commands in `before` are run, then the files are changed, then the commands in
    `after` are run. To undo it, those in `undo_before` are run, the files are restored, and
    those in `undo_after` are run. Each command can be repeated without harm."""

    name: str
    why: str
    changes: tuple[Change, ...] = ()
    before: tuple[Command, ...] = ()
    after: tuple[Command, ...] = ()
    undo_before: tuple[Command, ...] = ()
    undo_after: tuple[Command, ...] = ()

    @property
    def commands(self) -> tuple[Command, ...]:
        return (*self.before, *self.after)

    def merged(self, earlier: Step, done: bool) -> Step:
        """This step and an earlier one of the same name as one step: an undo restores the state
        before the earlier one. If that was `done`, each file was as it left it."""
        old = {change.path: change for change in earlier.changes}
        new = {change.path: change for change in self.changes}
        changes = old | new
        for path in old.keys() & new.keys():
            first, then = old[path], new[path]
            edited = first.edited or (done and then.before not in (first.before, first.after))
            changes[path] = replace(then, before=first.before, folders=first.folders, edited=edited)
        return Step(
            self.name,
            self.why,
            tuple(changes.values()),
            self.before,
            self.after,
            _joined(earlier.undo_before, self.undo_before),
            _joined(earlier.undo_after, self.undo_after),
        )


def _joined(earlier: tuple[Command, ...], later: tuple[Command, ...]) -> tuple[Command, ...]:
    """The earlier ones last: they restore the older state."""
    return (*(command for command in later if command not in earlier), *earlier)
