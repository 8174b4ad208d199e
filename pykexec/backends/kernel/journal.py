"""What was taken from this machine, written before it is taken.

A program that is killed leaves its journal behind; whoever comes next gives back
exactly what it says, so the pool ends as it was found.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pykexec.errors import KexecError
from pykexec.memory.ranges import PhysRange

SCHEMA = "pykexec.stage/1"
JOURNAL_MAX = 64 << 20


class BadJournal(KexecError):
    """A journal that was not written here."""

    code = "bad-journal"


@dataclass(frozen=True, slots=True)
class Taken:
    """`raised` pages were added to the pool so far. While it is being changed, `before` and
    `after` are its size then and what is asked for. `kept` are (physical address, page of
    the file); empty until the choice is made."""

    raised: int = 0
    before: int | None = None
    after: int | None = None
    kept: tuple[tuple[int, int], ...] = ()
    run: PhysRange | None = None

    def changing(self, before: int, after: int) -> Taken:
        """Written before the pool is changed."""
        return replace(self, before=before, after=after)

    def settled(self, now: int) -> Taken:
        """Once the pool has `now` pages: its part in that is ours, however far the change
        went before it was interrupted."""
        if self.before is None or self.after is None:
            return self
        low, high = sorted((self.before, self.after))
        moved = min(max(now, low), high) - self.before
        return replace(self, raised=self.raised + moved, before=None, after=None)


class Journal:
    """One file, replaced as a whole at every step."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "stage.json"

    def write(self, taken: Taken) -> None:
        document = {"schema": SCHEMA, **asdict(taken)}
        new = self.path.with_suffix(".new")
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with open(fd, "w", encoding="ascii") as file:
            json.dump(document, file)
        os.replace(new, self.path)

    def read(self) -> Taken | None:
        """None where nothing was taken. Raises BadJournal."""
        try:
            with open(self.path, "rb") as file:
                data = file.read(JOURNAL_MAX + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BadJournal(f"{self.path}: {error.strerror}".lower()) from error
        try:
            return taken_of(json.loads(data))
        except (ValueError, TypeError, KeyError, RecursionError, KexecError) as error:
            raise BadJournal(
                f"{self.path}: not a journal of pykexec",
                hint="remove it, and lower nr_hugepages by hand",
            ) from error

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.path.with_suffix(".new").unlink(missing_ok=True)


def taken_of(document: dict[str, object]) -> Taken:
    """The value that `write` wrote; raises anything for something else."""
    if document["schema"] != SCHEMA:
        raise ValueError(document["schema"])
    kept, run = document["kept"], document["run"]
    if not isinstance(kept, list) or not (run is None or isinstance(run, dict)):
        raise TypeError("kept or run")
    return Taken(
        raised=whole(document["raised"]),
        before=None if document["before"] is None else whole(document["before"]),
        after=None if document["after"] is None else whole(document["after"]),
        kept=tuple((whole(addr), whole(index)) for addr, index in kept),
        run=PhysRange(whole(run["start"]), whole(run["end"])) if run else None,
    )


def whole(value: object) -> int:
    """A number that is neither a truth value nor a fraction."""
    if type(value) is not int:
        raise TypeError(value)
    return value
