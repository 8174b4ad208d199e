"""Blocks as plain text: complete, the same from run to run, at any width."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from pykexec.cli.out.blocks import Block, Facts, Lines, Reasons, Remedies, Segments, Table

if TYPE_CHECKING:
    from pykexec.placement.segment import Segment, SegmentTable

SEGMENT_HEAD = ("No.", "buf", "bufsz", "mem", "memsz", "what")
SEGMENT_WIDTHS = (3, 10, 8, 8, 8)
"""The minimum width of each column; a longer address widens its column."""
FACT_WIDTHS = (9,)
GAP = "  "


def text(blocks: Iterable[Block]) -> Iterator[str]:
    """Lines, with an empty line between blocks."""
    for number, block in enumerate(blocks):
        if number:
            yield ""
        yield from _block_lines(block)


def _block_lines(block: Block) -> Iterable[str]:
    match block:
        case Facts(pairs):
            return columns(pairs, FACT_WIDTHS)
        case Table(head, rows):
            return columns([head, *rows])
        case Segments(table, title):
            return [title, *segment_table(table)] if title else segment_table(table)
        case Reasons(table):
            whys = (
                (str(number), item.name, item.why) for number, item in enumerate(table.segments)
            )
            return columns([("No.", "what", "why"), *whys])
        case Remedies(_, rows):
            return remedy_lines(rows)
        case Lines(lines):
            return lines


def columns(rows: Iterable[Sequence[str]], widths: Sequence[int] = ()) -> Iterator[str]:
    """Rows in columns, separated by two spaces; nothing is truncated."""
    cells = [tuple(row) for row in rows]
    if not cells:
        return
    least = (*widths, *(0 for _ in cells[0][len(widths) :]))
    wide = [max([low, *(len(row[at]) for row in cells)]) for at, low in enumerate(least)]
    for row in cells:
        padded = (cell.ljust(width) for cell, width in zip(row, wide, strict=True))
        yield GAP.join(padded).rstrip()


def segment_table(table: SegmentTable) -> list[str]:
    """The segment table: a header, and one line for each segment."""
    rows = [segment_row(*pair) for pair in enumerate(table.segments)]
    return list(columns([SEGMENT_HEAD, *rows], SEGMENT_WIDTHS))


def segment_row(number: int, item: Segment) -> tuple[str, ...]:
    return (
        str(number),
        "data" if item.bufsz else "NULL",
        _hexa(item.bufsz),
        f"{item.mem:#x}",
        _hexa(item.memsz),
        item.name,
    )


def _hexa(value: int) -> str:
    """A number in hexadecimal with the prefix 0x; "0" for 0."""
    return f"{value:#x}" if value else "0"


def remedy_lines(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """One line for each row, followed by what would help."""
    rows = list(rows)
    for line, row in zip(columns(row[:-1] for row in rows), rows, strict=True):
        yield line
        if row[-1]:
            yield f"         fix: {row[-1]}"
