"""A comparison as plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.cli.plain import columns, many

if TYPE_CHECKING:
    from pykexec.plan_diff import Piece, PlanDiff

FIELD_HEAD = ("field", "A", "B")
PIECE_HEAD = ("segment", "", "A", "B")
NOTHING = "-"


def diff(found: PlanDiff, verbose: int = 0) -> list[str]:
    lines: list[str] = []
    if found.fields:
        lines += [*columns([FIELD_HEAD, *field_rows(found)]), ""]
    if found.pieces:
        lines += [*columns([PIECE_HEAD, *piece_rows(found)]), ""]
    return [*lines, diff_verdict(found)]


def field_rows(found: PlanDiff) -> list[tuple[str, ...]]:
    return [(item.field, or_nothing(item.a), or_nothing(item.b)) for item in found.fields]


def piece_rows(found: PlanDiff) -> list[tuple[str, ...]]:
    return [
        (item.name, ", ".join(item.what), piece(item.a), piece(item.b)) for item in found.pieces
    ]


def piece(item: Piece | None) -> str:
    """Where it is, and the first digits of what it holds."""
    if item is None:
        return NOTHING
    return f"{item.range} {item.sha256[:12] if item.sha256 else 'no data'}"


def or_nothing(text: str | None) -> str:
    return NOTHING if text is None else text


def diff_verdict(found: PlanDiff) -> str:
    if found.same:
        return "the same"
    fields, pieces = many(len(found.fields), "field"), many(len(found.pieces), "segment")
    return f"different: {fields}, {pieces}"
