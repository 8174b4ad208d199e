"""The result of `diff`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykexec.cli.out.blocks import Block, Lines, Table
from pykexec.cli.report.page_parts import GOOD, many
from pykexec.documents.findings import ComparedPiece, Difference, FieldDifference, PieceDifference

if TYPE_CHECKING:
    from pykexec.flows.diff import Piece, PlanDiff

NOTHING = "-"


@dataclass(frozen=True)
class DiffReport:
    """The fields and segments in which two plans differ."""

    found: PlanDiff

    def document(self) -> Difference:
        found = self.found
        return Difference(
            found.same,
            tuple(FieldDifference(item.field, item.a, item.b) for item in found.fields),
            tuple(
                PieceDifference(item.name, item.what, compared(item.a), compared(item.b))
                for item in found.pieces
            ),
        )

    def page(self, verbose: int) -> list[Block]:
        found = self.found
        page: list[Block] = []
        if found.fields:
            fields = [(item.field, side(item.a), side(item.b)) for item in found.fields]
            page.append(Table(("field", "A", "B"), fields, 2))
        if found.pieces:
            pieces = [
                (item.name, ", ".join(item.what), _piece(item.a), _piece(item.b))
                for item in found.pieces
            ]
            page.append(Table(("segment", "", "A", "B"), pieces, 0))
        if found.same:
            return [*page, Lines(["the same"], GOOD)]
        counts = f"{many(len(found.fields), 'field')}, {many(len(found.pieces), 'segment')}"
        return [*page, Lines([f"different: {counts}"], "bold")]


def compared(item: Piece | None) -> ComparedPiece | None:
    if item is None:
        return None
    return ComparedPiece(item.bufsz, item.range.start, item.range.size, item.sha256)


def side(value: str | None) -> str:
    return NOTHING if value is None else value


def _piece(item: Piece | None) -> str:
    """Its address, and the first digits of its digest."""
    if item is None:
        return NOTHING
    return f"{item.range} {item.sha256[:12] if item.sha256 else 'no data'}"
