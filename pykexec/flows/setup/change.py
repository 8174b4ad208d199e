"""The changes of files that are needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pykexec.backends.setup.step import Change, Command
from pykexec.host.file_state import NOTHING, FileState, NotChangeable

if TYPE_CHECKING:
    from pykexec.host.setup_facts import SetupFacts

DAEMON_RELOAD: Command = ("systemctl", "daemon-reload")
RULES_RELOAD: Command = ("udevadm", "control", "--reload")
MADE = "# Made by pykexec setup"
BY = f"{MADE}; pykexec setup --undo removes it.\n"


def state(facts: SetupFacts, path: str) -> FileState:
    """The present state of a path. Raises NotChangeable."""
    if path in facts.unchangeable:
        raise NotChangeable(facts.unchangeable[path])
    return facts.files.get(path, NOTHING)


def changes(facts: SetupFacts, wanted: Mapping[str, FileState]) -> tuple[Change, ...]:
    """The changes of the files that are different. Raises NotChangeable."""
    return tuple(_changes(facts, wanted))


def _changes(facts: SetupFacts, wanted: Mapping[str, FileState]) -> Iterator[Change]:
    for path, after in wanted.items():
        before = state(facts, path)
        if before != after:
            yield Change(path, before, after, facts.folders.get(path, ()))


def with_udev(facts: SetupFacts) -> tuple[Command, ...]:
    return (RULES_RELOAD,) if facts.udev else ()
