"""Carries out the steps of `pykexec setup`, and undoes them.

Every step is in the journal before it begins. What was killed half way is completed by carrying it
out again, or undone: both look at what there is, and each command can be repeated.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from pykexec.backends.setup.files import make_folders, put, remove_folders, temporary_of
from pykexec.backends.setup.journal import FOLDER, NAME, Record, SetupJournal
from pykexec.backends.setup.step import Change, Command, Step
from pykexec.errors import KexecError, NotPermitted, printable
from pykexec.frozen import dataclass
from pykexec.host.file_state import NOTHING, NotChangeable, locate, missing_folders, read_state

if TYPE_CHECKING:
    from pykexec.host.root import Folder

SECONDS = 1800
"""Time limit for a command: making an initrd can take minutes."""
START: Command = ("systemctl", "start")
NOT_INSTALLED = 5
"""The exit status of systemctl for a unit that is not there (systemctl(1))."""
LINES = 3
"""The number of last lines of a failed command to quote."""
OUR_STATE = re.compile(r"initrd\.img-.*|armed|reported")
"""Names in /var/lib/pykexec that commands and services of pykexec make."""

Run = Callable[[Command], None]
Tell = Callable[[str], None]


class CommandFailed(KexecError):
    """A command of a step cannot be run, or failed. `gone` is whether its program, or the unit that
    it should start, is no longer installed."""

    code = "command-failed"
    usual_hint = "fix this, and run pykexec setup again, which continues where it stopped"
    gone = False


class ChangedMeanwhile(KexecError):
    """A file is neither as it was when it was shown, nor as it should become."""

    code = "changed-meanwhile"
    usual_hint = "run pykexec setup again"


@dataclass(frozen=True, slots=True)
class Left:
    """What could not be undone of a step: files that somebody has changed since, and the
    message of the first command that failed."""

    step: Step
    changed: tuple[str, ...]
    failure: str | None


def run(command: Command, lock: int | None = None) -> None:
    """Run a command with its output discarded, unless it fails. If pykexec is killed, what the
    command started goes on, and holds the `lock` until its end. Raises CommandFailed."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            check=False,
            pass_fds=() if lock is None else (lock,),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        failed = CommandFailed(f"{command[0]}: {error}".lower())
        failed.gone = isinstance(error, FileNotFoundError)
        raise failed from error
    if done.returncode:
        lines = done.stdout.decode("utf-8", "replace").split("\n")
        shown = " / ".join([line.strip() for line in lines if line.strip()][-LINES:])
        failed = CommandFailed(
            f"{' '.join(command)}: exit status {done.returncode}{shown and f': {shown}'}",
        )
        failed.gone = command[:2] == START and done.returncode == NOT_INSTALLED
        raise failed


class Acting:
    """The machine below a root. `tell` gets a line before each step."""

    def __init__(self, root: Folder, run: Run = run, tell: Tell = lambda line: None) -> None:
        self.root, self.run, self.tell = root, run, tell
        self.journal = SetupJournal(root)

    def perform(self, steps: tuple[Step, ...]) -> None:
        """Carry the steps out, in order. Raises CommandFailed, ChangedMeanwhile, NotPermitted,
        BadSetupJournal; the steps before the one that failed are done."""
        for step in steps:
            self.tell(f"{step.name}: {step.why}")
            try:
                self._perform_one(step)
            except OSError as error:
                raise _refused(error) from error

    def _perform_one(self, step: Step) -> None:
        record = self.journal.read_or_new()
        earlier = record.entry(step.name)
        whole = step.merged(earlier.step, earlier.done) if earlier else step
        self.journal.write(record.having(whole, done=False))
        for command in step.before:
            self.run(command)
        for change in step.changes:
            self._make(change)
        for command in step.after:
            self.run(command)
        self.journal.write(record.having(whole, done=True))

    def _make(self, change: Change) -> None:
        found = read_state(self.root, change.path)
        if found == change.after:
            return
        if found != change.before:
            raise ChangedMeanwhile(f"{change.path}: changed since it was shown")
        make_folders(self.root, change.folders)
        put(self.root, change.path, change.after)

    def undo(self) -> tuple[Left, ...]:
        """Undo everything in the journal, the last step first, and return what is left. Raises
        NotPermitted, BadSetupJournal."""
        record = self.journal.read()
        if record is None:
            return ()
        try:
            left = tuple(self._undo_all(record))
            if not left:
                self._remove_state(record)
                self.journal.remove()
        except OSError as error:
            raise _refused(error) from error
        return left

    def _undo_all(self, record: Record) -> Iterator[Left]:
        for entry in reversed(record.entries):
            step = entry.step
            self.tell(f"undo {step.name}: {step.why}")
            found = self._undo_one(step)
            if found is None:
                record = record.without(step.name)
            else:
                record = record.having(found.step, done=False)
                yield found
            self.journal.write(record)

    def _undo_one(self, step: Step) -> Left | None:
        """A file that was changed by others is left, and so is a step whose commands fail."""
        failure = self._try(step.undo_before)
        changes = tuple(change for change in reversed(step.changes) if not self._restore(change))
        failure = self._try(step.undo_after) or failure
        if not changes and failure is None:
            return None
        rest = Step(
            step.name,
            step.why,
            tuple(replace(change, edited=True) for change in reversed(changes)),
            undo_before=step.undo_before,
            undo_after=step.undo_after,
        )
        return Left(rest, tuple(change.path for change in rest.changes), failure)

    def _try(self, commands: tuple[Command, ...]) -> str | None:
        """Run all commands; returns the message of the first that failed, or None. What is no
        longer installed needs no undo."""
        failure = None
        for command in commands:
            try:
                self.run(command)
            except CommandFailed as error:
                failure = failure or (None if error.gone else error.message)
        return failure

    def _restore(self, change: Change) -> bool:
        """Restore a file; returns whether it is as it was. A file that somebody has removed does
        not count as changed."""
        with suppress(FileNotFoundError):
            os.unlink(locate(self.root, temporary_of(change.path)))
        try:
            found = read_state(self.root, change.path)
        except NotChangeable:
            return False
        if found not in (change.before, change.after, NOTHING):
            return False
        if found == change.after != change.before and change.edited:
            return False
        if found == NOTHING and change.may_vanish:
            return True
        if found != change.before:
            make_folders(self.root, missing_folders(self.root, change.path))
            put(self.root, change.path, change.before)
        remove_folders(self.root, change.folders)
        return True

    def _remove_state(self, record: Record) -> None:
        """Remove what commands and services have made in our folder since."""
        folder = self.root.locate(FOLDER)
        for name in os.listdir(folder):
            if OUR_STATE.fullmatch(name) and name not in record.kept and name != NAME:
                os.unlink(f"{folder}/{name}")


def _refused(error: OSError) -> KexecError:
    """No privilege, a read-only file system, no space."""
    where = f"{error.filename}: " if error.filename else ""
    message = printable(f"{where}{(error.strerror or str(error)).lower()}")
    if isinstance(error, PermissionError):
        return NotPermitted(message, hint="run as root")
    return KexecError(message, hint="make room or mount it writable, and run pykexec setup again")
