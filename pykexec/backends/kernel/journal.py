"""What was taken from this machine, written before it is taken.

A program that is killed leaves its journal behind; whoever comes next gives back
exactly what it says, so the pool ends as it was found.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from pykexec.backends.kernel.state_file import StateFile, whole
from pykexec.errors import KexecError
from pykexec.memory.ranges import PhysRange


class BadJournal(KexecError):
    """A journal that was not written here."""

    code = "bad-journal"


@dataclass(frozen=True, slots=True)
class Taken:
    """`raised` pages were added to the pool so far. While it is being changed, `before` and
    `after` are its size then and what is asked for. `kept` are (physical address, page of
    the file); empty until the choice is made. `gib_pages` is how many pages of 1 GiB there
    were before we had one more, None while there are as many as there were. `overcommit` is how
    many surplus pages there might be before we allowed more, None while that is as it was."""

    raised: int = 0
    before: int | None = None
    after: int | None = None
    kept: tuple[tuple[int, int], ...] = ()
    run: PhysRange | None = None
    gib_pages: int | None = None
    overcommit: int | None = None

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


class Journal(StateFile[Taken]):
    """Written anew at every step."""

    name, schema, what = "stage.json", "pykexec.stage/1", "journal"
    bad = BadJournal
    remedy = "remove it, and lower nr_hugepages by hand"

    def encode(self, value: Taken) -> dict[str, object]:
        return asdict(value)

    def decode(self, found: dict[str, Any]) -> Taken:
        run = found["run"]
        return Taken(
            raised=whole(found["raised"]),
            before=whole_or_none(found["before"]),
            after=whole_or_none(found["after"]),
            kept=tuple((whole(addr), whole(index)) for addr, index in found["kept"]),
            run=PhysRange(whole(run["start"]), whole(run["end"])) if run else None,
            gib_pages=whole_or_none(found["gib_pages"]),
            overcommit=whole_or_none(found.get("overcommit")),
        )


def whole_or_none(value: object) -> int | None:
    return None if value is None else whole(value)
