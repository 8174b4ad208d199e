"""What two plans decide differently.

Texts for people (why, detail) are not compared. The backup map of a load is compared by
its size: a kernel gives other pages each time.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pykexec.abi.kexec import PAGE_SIZE
from pykexec.documents.plan import BadPlan, number, read_plan, span_of, whole
from pykexec.memory.ranges import BadRange, PhysRange


@dataclass(frozen=True, slots=True)
class Piece:
    """One segment, or one thing that waits in the stage."""

    name: str
    range: PhysRange
    bufsz: int
    sha256: str | None


@dataclass(frozen=True)
class PlanFacts:
    """A document as what is compared: `single` fields have one value or none, `several`
    any number, in any order."""

    single: dict[str, str | None]
    several: dict[str, tuple[str, ...]]
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class FieldDiff:
    """None: that plan has no such thing."""

    field: str
    a: str | None
    b: str | None


@dataclass(frozen=True, slots=True)
class PieceDiff:
    """None: that plan has no such piece."""

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
    first, second = plan_facts(a), plan_facts(b)
    return PlanDiff(
        (*single_diffs(first, second), *several_diffs(first, second)),
        tuple(piece_diffs(first.pieces, second.pieces)),
    )


def plan_facts(path: str | os.PathLike[str]) -> PlanFacts:
    document = read_plan(path)
    try:
        return facts_of(document)
    except (KeyError, TypeError, ValueError, AttributeError, BadRange) as error:
        raise BadPlan(f"{path}: not a whole plan: {error!r}"[:300]) from error


def facts_of(document: dict[str, Any]) -> PlanFacts:
    """From a document that may be anything; raises what Python raises."""
    plain = {name: text(document[name]) for name in ("backend", "image", "mode", "state", "entry")}
    kernel = {f"kernel {name}": text(value) for name, value in document["kernel"].items()}
    window, syscall = document["window"], document.get("syscall")
    reserved = document["reservation"]
    console = document.get("console")
    return PlanFacts(
        plain
        | kernel
        | {
            "cmdline": text(document["cmdline"]),
            "console": text(console["port"]) if console else None,
            "window": str(span_of(window)) if window else None,
            "reservation": None if reserved is None else ", ".join(spans(reserved)) or "nothing",
            "syscall": text(syscall["name"]) if syscall else None,
        }
        | bound_facts(document),
        {
            "flag": tuple(str(text(flag)) for flag in document["flags"]),
            "memory": tuple(f"{span_of(m)} {text(m['type'])}" for m in document["memory_map"]),
            "memory of the next kernel": next_memory(document),
            "rule": tuple(f"{text(c['rule'])}: {verdict(c['ok'])}" for c in document["checks"]),
        },
        tuple(piece(item) for item in (*document["segments"], *document.get("stage", ()))),
    )


def next_memory(document: dict[str, Any]) -> tuple[str, ...]:
    """Of a normal load; a capture kernel's follows from its window and its headers."""
    if document["image"] != "normal":
        return ()
    return tuple(f"{span_of(m)} {text(m['type'])}" for m in document.get("next_memory_map", ()))


def bound_facts(document: dict[str, Any]) -> dict[str, str | None]:
    """What only a bound plan has."""
    headers = document.get("elfcorehdr")
    if not headers:
        return {"backup pages": None, "ELF core headers": None}
    runs = [(run["dest"], run["source"], whole(run["size"])) for run in document["backup_map"]]
    moved = sum(size for dest, source, size in runs if dest != source) // PAGE_SIZE
    at = PhysRange.sized(number(headers["addr"]), whole(headers["size"]))
    return {"backup pages": str(moved), "ELF core headers": str(at)}


def spans(items: Iterable[dict[str, Any]]) -> list[str]:
    return [str(span_of(item)) for item in items]


def piece(item: dict[str, Any]) -> Piece:
    digest = text(item["sha256"])
    at = PhysRange.sized(number(item["mem"]), whole(item["memsz"]))
    return Piece(str(text(item["name"])), at, whole(item["bufsz"]), digest)


def text(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"expected a string, found {value!r}")
    return value


def verdict(value: object) -> str:
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"expected true, false or null, found {value!r}")
    return {True: "ok", False: "broken", None: "unknown"}[value]


def single_diffs(a: PlanFacts, b: PlanFacts) -> Iterator[FieldDiff]:
    for name in dict.fromkeys((*a.single, *b.single)):
        if a.single.get(name) != b.single.get(name):
            yield FieldDiff(name, a.single.get(name), b.single.get(name))


def several_diffs(a: PlanFacts, b: PlanFacts) -> Iterator[FieldDiff]:
    """One line for each value that only one of them has."""
    for name, values in a.several.items():
        others = b.several[name]
        gone, come = Counter(values) - Counter(others), Counter(others) - Counter(values)
        yield from (FieldDiff(name, value, None) for value in gone.elements())
        yield from (FieldDiff(name, None, value) for value in come.elements())


def piece_diffs(a: tuple[Piece, ...], b: tuple[Piece, ...]) -> Iterator[PieceDiff]:
    """Pieces of one name (memory of the capture kernel is in several) are compared in their
    order, after those that are alike."""
    gone, come = Counter(a) - Counter(b), Counter(b) - Counter(a)
    for name in dict.fromkeys(item.name for item in (*a, *b)):
        olds = [item for item in gone.elements() if item.name == name]
        news = [item for item in come.elements() if item.name == name]
        for at in range(max(len(olds), len(news))):
            old = olds[at] if at < len(olds) else None
            new = news[at] if at < len(news) else None
            yield PieceDiff(name, old, new)
