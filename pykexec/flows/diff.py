"""The differences between two plans.

Explanatory texts (why, detail) are not compared. Backup maps are compared by size only: a kernel
allocates different pages each time.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykexec.documents.plan import BadPlan, MapEntry, PlanDocument, PlannedSegment, read_plan
from pykexec.memory.ranges import BadRange, PhysRange

if TYPE_CHECKING:
    from pykexec.documents.base import Span


@dataclass(frozen=True, slots=True)
class Piece:
    """One segment, or one object in the stage."""

    name: str
    range: PhysRange
    bufsz: int
    sha256: str | None


@dataclass(frozen=True)
class PlanFacts:
    """The facts of a document that are compared: `single` fields have at most one value, `several`
    any number, in any order."""

    single: dict[str, str | None]
    several: dict[str, tuple[str, ...]]
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class FieldDiff:
    """None if that plan does not have it."""

    field: str
    a: str | None
    b: str | None


@dataclass(frozen=True, slots=True)
class PieceDiff:
    """None if that plan does not have the piece."""

    name: str
    a: Piece | None
    b: Piece | None

    @property
    def what(self) -> tuple[str, ...]:
        """moved, resized, contents; or removed, added."""
        if self.a is None or self.b is None:
            return ("added",) if self.a is None else ("removed",)
        changes = (
            ("moved", self.a.range.start != self.b.range.start),
            ("resized", self.a.range.size != self.b.range.size),
            ("contents", (self.a.bufsz, self.a.sha256) != (self.b.bufsz, self.b.sha256)),
        )
        return tuple(word for word, changed in changes if changed)


@dataclass(frozen=True)
class PlanDiff:
    """Where two plans differ."""

    fields: tuple[FieldDiff, ...]
    pieces: tuple[PieceDiff, ...]

    @property
    def same(self) -> bool:
        return not self.fields and not self.pieces


def diff(a: str | os.PathLike[str], b: str | os.PathLike[str]) -> PlanDiff:
    """Two documents of load --json. Raises UnreadableFile, BadPlan."""
    first, second = _plan_facts(a), _plan_facts(b)
    return PlanDiff(
        (*_single_diffs(first, second), *_several_diffs(first, second)),
        tuple(_piece_diffs(first.pieces, second.pieces)),
    )


def _plan_facts(path: str | os.PathLike[str]) -> PlanFacts:
    plan = read_plan(path)
    try:
        return _facts_of(plan)
    except BadRange as error:
        raise BadPlan(f"{path}: incomplete plan: {error!r}"[:300]) from error


def _facts_of(plan: PlanDocument) -> PlanFacts:
    """Raises BadRange."""
    port, reserved = plan.console.port, plan.reservation
    return PlanFacts(
        {
            "backend": plan.backend,
            "image": plan.image,
            "mode": plan.mode,
            "state": plan.state,
            "entry": hex(plan.entry),
            "kernel type": plan.kernel.type,
            "kernel version": plan.kernel.version,
            "kernel sha256": plan.kernel.sha256,
            "cmdline": plan.cmdline,
            "console": None if port is None else hex(port),
            "wait": f"{plan.settle.seconds} s" if plan.settle else None,
            "window": str(plan.window.range) if plan.window else None,
            "reservation": None if reserved is None else ", ".join(_spans(reserved)) or "nothing",
            "syscall": plan.syscall.name if plan.syscall else None,
        }
        | _bound_facts(plan),
        {
            "flag": plan.flags,
            "memory": memory(plan.memory_map),
            "memory of the next kernel": _next_memory(plan),
            "rule": tuple(f"{check.rule}: {VERDICTS[check.ok]}" for check in plan.checks),
        },
        tuple(map(_piece, (*plan.segments, *(plan.stage or ())))),
    )


VERDICTS = {True: "ok", False: "broken", None: "unknown"}


def memory(entries: Iterable[MapEntry]) -> tuple[str, ...]:
    return tuple(f"{item.range} {item.type}" for item in entries)


def _next_memory(plan: PlanDocument) -> tuple[str, ...]:
    """For a normal load; that of a capture kernel follows from its window and headers."""
    return memory(plan.next_memory_map) if plan.image == "normal" else ()


def _bound_facts(plan: PlanDocument) -> dict[str, str | None]:
    """Facts that only a bound plan has."""
    if not plan.elfcorehdr:
        return {"backup pages": None, "ELF core headers": None}
    moved = sum(run.size for run in plan.backup_map or () if run.dest != run.source)
    pages = moved // plan.page_size
    return {"backup pages": str(pages), "ELF core headers": str(plan.elfcorehdr.range)}


def _spans(items: Iterable[Span]) -> list[str]:
    return [str(item.range) for item in items]


def _piece(item: PlannedSegment) -> Piece:
    return Piece(item.name, item.range, item.bufsz, item.sha256)


def _single_diffs(a: PlanFacts, b: PlanFacts) -> Iterator[FieldDiff]:
    for name in dict.fromkeys((*a.single, *b.single)):
        if a.single.get(name) != b.single.get(name):
            yield FieldDiff(name, a.single.get(name), b.single.get(name))


def _several_diffs(a: PlanFacts, b: PlanFacts) -> Iterator[FieldDiff]:
    """One line for each value that only one of them has."""
    for name, values in a.several.items():
        others = b.several[name]
        gone, come = Counter(values) - Counter(others), Counter(others) - Counter(values)
        yield from (FieldDiff(name, value, None) for value in gone.elements())
        yield from (FieldDiff(name, None, value) for value in come.elements())


def _piece_diffs(a: tuple[Piece, ...], b: tuple[Piece, ...]) -> Iterator[PieceDiff]:
    """Pieces of the same name (memory of the capture kernel has several) are matched in order,
    after equal ones."""
    gone, come = Counter(a) - Counter(b), Counter(b) - Counter(a)
    for name in dict.fromkeys(item.name for item in (*a, *b)):
        olds = [item for item in gone.elements() if item.name == name]
        news = [item for item in come.elements() if item.name == name]
        for at in range(max(len(olds), len(news))):
            old = olds[at] if at < len(olds) else None
            new = news[at] if at < len(news) else None
            yield PieceDiff(name, old, new)
