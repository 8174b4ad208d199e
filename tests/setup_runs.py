"""Runs of pykexec setup in trees of files, which can end at any moment."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from pykexec.backends.setup.acting import Acting, CommandFailed
from pykexec.backends.setup.journal import PATH, SetupJournal
from pykexec.backends.setup.step import Command
from pykexec.flows.setup.steps import SetupSteps, decide
from pykexec.host.facts import read_machine
from pykexec.host.root import Folder
from pykexec.host.setup_facts import read_facts
from tests.setup_trees import apply, snapshot

MOMENTS = ("replace", "unlink", "symlink", "mkdir", "rmdir")


class Killed(BaseException):
    """The process ends here."""


class Clock:
    """Ends the process at a certain moment: before or after a system call or a command."""

    def __init__(self, last: int | None) -> None:
        self.left = last

    def tick(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Killed


@contextmanager
def killed_at(moment: int | None) -> Iterator[Clock]:
    """Run until the process is killed: nothing that would run later in it does."""
    clock = Clock(moment)
    with pytest.MonkeyPatch.context() as patch:
        for name in MOMENTS:
            patch.setattr(os, name, ticking(getattr(os, name), clock))
        patch.setattr(os, "fsync", ticking(lambda fd: None, clock))
        yield clock


def ticking(call: Callable[..., object], clock: Clock) -> Callable[..., object]:
    def called(*words: object, **more: object) -> object:
        clock.tick()
        return call(*words, **more)

    return called


def plan(root: Folder, sysctls: bool = False) -> SetupSteps:
    machine = read_machine(root)
    return decide(machine, read_facts(root, machine), SetupJournal(root).read(), sysctls)


def acting(root: Folder, clock: Clock | None = None) -> Acting:
    """An Acting whose commands change files."""

    def command(words: Command) -> None:
        if clock:
            clock.tick()
        apply(root, words)
        if clock:
            clock.tick()

    return Acting(root, command)


def set_up(root: Folder, moment: int | None = None, sysctls: bool = False) -> None:
    steps = plan(root, sysctls).steps
    with killed_at(moment) as clock, suppress(Killed):
        acting(root, clock).perform(steps)


def undo(root: Folder, moment: int | None = None) -> None:
    with killed_at(moment) as clock, suppress(Killed):
        assert acting(root, clock).undo() == ()


def failing(root: Folder, program: str) -> Acting:
    def command(words: Command) -> None:
        if words[0] == program:
            raise CommandFailed(f"{program}: exit status 1")
        apply(root, words)

    return Acting(root, command)


def files_of(root: Folder) -> dict[str, object]:
    """Without the journal, and without empty folders: a process that is killed while it makes or
    removes the journal leaves its folder."""
    return {
        path: found
        for path, found in snapshot(root).items()
        if found != "folder" and path != PATH and not path.endswith("pykexec-new")
    }
