"""Records what is taken from this machine, before it is taken.

A killed program leaves its journal behind; the next program releases exactly what it lists, so that
the pool returns to its old state.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pykexec.backends.kernel.state_file import StateFile
from pykexec.errors import KexecError
from pykexec.frozen import dataclass
from pykexec.memory.ranges import PhysRange


class BadJournal(KexecError):
    """A journal that was not written by pykexec."""

    code = "bad-journal"


@dataclass(frozen=True, slots=True)
class Taken:
    """`raised` pages were added to the pool so far. While it is being changed, `before` and `after`
    are its old size and the requested one. `kept` has (physical address, page of the file), and is
    empty until the choice is made. `gib_pages` is the number of pages of 1 GiB before one was
    added, None if none was. `overcommit` is the old limit of surplus pages, None if it is
    unchanged."""

    raised: int = 0
    before: int | None = None
    after: int | None = None
    kept: tuple[tuple[int, int], ...] = ()
    run: PhysRange | None = None
    gib_pages: int | None = None
    overcommit: int | None = None

    def changing(self, before: int, after: int) -> Taken:
        """To be written before the pool is changed."""
        return replace(self, before=before, after=after)

    def settled(self, now: int) -> Taken:
        """To be written when the pool has `now` pages: the difference is ours, however far the
        change went before it was interrupted."""
        if self.before is None or self.after is None:
            return self
        low, high = sorted((self.before, self.after))
        moved = min(max(now, low), high) - self.before
        return replace(self, raised=self.raised + moved, before=None, after=None)


@dataclass(frozen=True, slots=True)
class Run:
    """Physical addresses, half-open."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class TakenDocument:
    """A Taken in a file."""

    schema: ClassVar[str] = "pykexec.stage/1"
    raised: int
    before: int | None
    after: int | None
    kept: tuple[tuple[int, int], ...]
    run: Run | None
    gib_pages: int | None
    overcommit: int | None


class Journal(StateFile[Taken, TakenDocument]):
    """Rewritten at every step."""

    name, kind, what = "stage.json", TakenDocument, "journal"
    older: ClassVar[dict[str, object]] = {"overcommit": None}
    bad = BadJournal
    remedy = "remove it, and lower nr_hugepages by hand"

    def encode(self, value: Taken) -> TakenDocument:
        return TakenDocument(
            value.raised,
            value.before,
            value.after,
            value.kept,
            Run(value.run.start, value.run.end) if value.run else None,
            value.gib_pages,
            value.overcommit,
        )

    def decode(self, found: TakenDocument) -> Taken:
        return Taken(
            found.raised,
            found.before,
            found.after,
            found.kept,
            PhysRange(found.run.start, found.run.end) if found.run else None,
            found.gib_pages,
            found.overcommit,
        )
