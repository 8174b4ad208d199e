"""Draws blocks with rich, for a terminal.

The only module that imports rich. Kernel text must be in rich.text.Text: in a plain string rich
interprets `[init=/bin/sh]` as markup.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from pykexec.cli.out import plain
from pykexec.cli.out.blocks import Block, Facts, Lines, Reasons, Remedies, Segments, Table
from pykexec.errors import printable
from pykexec.memory.ranges import PhysRange

if TYPE_CHECKING:
    from pykexec.placement.segment import Segment, SegmentTable

STYLES = {"file": "cyan", "built": "yellow", "memory-only": "dim"}
LEGEND = {"file": "from a file", "built": "made by pykexec", "memory-only": "memory only"}
WIDE = 120
"""Minimum width for two columns of words side by side."""
TEXT_MIN = 18
"""The minimum readable width of a column of words."""
FRAME = 3
"""The width of a column's padding and border."""
MARGIN = 2
ROWS_MAX = 500
"""rich takes twelve seconds for ten thousand rows, so longer tables are plain."""


def draw(blocks: Iterable[Block]) -> None:
    """On stdout, without markup, highlighting or emoji codes."""
    console = Console(file=sys.stdout, markup=False, highlight=False, emoji=False)
    console.print(Group(*_spaced(drawn(block) for block in blocks)))


def _spaced(parts: Iterable[RenderableType | None]) -> Iterator[RenderableType]:
    """Insert an empty line between drawn blocks."""
    between = False
    for part in parts:
        if part is not None:
            if between:
                yield Text()
            yield part
            between = True


def drawn(block: Block) -> RenderableType | None:
    match block:
        case Facts(pairs):
            return facts(pairs)
        case Table(head, rows, words, styles):
            return grid(head, rows, words, styles)
        case Segments(table, title, around):
            return segments(table, title, around)
        case Reasons():
            return None
        case Remedies(head, rows, styles):
            return remedies(head, rows, styles)
        case Lines(lines, style):
            return _plain_lines(lines, style)


def _width() -> int:
    return shutil.get_terminal_size().columns


def _can_draw(text: str) -> bool:
    """Whether the terminal's encoding has these characters."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def grid(
    head: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1, styles: Sequence[str] = ()
) -> RenderableType:
    """A table of which only the last `words` columns may be wrapped; if the terminal is still too
    narrow, plain columns, which it wraps."""
    if len(rows) > ROWS_MAX or not _fits(head, rows, words):
        return _plain_lines(plain.columns([head, *rows]))
    table = RichTable(box=box.ROUNDED, header_style="bold")
    for at, name in enumerate(head):
        table.add_column(name, no_wrap=at < len(head) - words, overflow="fold")
    for at, row in enumerate(rows):
        style = styles[at] if styles else ""
        table.add_row(*(Text(printable(cell), style) for cell in row))
    return table


def remedies(
    head: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str]
) -> RenderableType:
    """A table if both columns of words fit; otherwise the remedy is below what was found; on very
    narrow terminals plain lines."""
    if _width() >= WIDE and _fits(head, rows, 2):
        return grid(head, rows, 2, styles)
    shown = [row[:-1] for row in rows]
    if not _fits(head[:-1], shown, 1):
        return _plain_lines(plain.remedy_lines(rows))
    table = RichTable.grid(padding=(0, MARGIN))
    for at in range(len(head) - 1):
        table.add_column(no_wrap=at < len(head) - 2, overflow="fold")
    for row, style in zip(rows, styles, strict=True):
        cells = [Text(printable(cell)) for cell in row[:-1]]
        cells[0].stylize(style)
        if row[-1]:
            cells[-1].append(f"\nfix: {printable(row[-1])}", "bold")
        table.add_row(*cells)
    return table


def _fits(head: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> bool:
    """Whether every column but the last `words` has its full width, and these are wide enough to
    read."""
    fixed = range(len(head) - words)
    need = sum(max(len(row[at]) for row in (head, *rows)) + FRAME for at in fixed)
    return need + words * (TEXT_MIN + FRAME) + 1 <= _width()


def _plain_lines(lines: Iterable[str], style: str = "") -> Text:
    """Lines that the terminal wraps; nothing is truncated."""
    return Text("\n".join(printable(line) for line in lines), style, overflow="fold", no_wrap=False)


def facts(pairs: Iterable[tuple[str, str]]) -> RenderableType:
    """name  value, with the value wrapped in its own column."""
    table = RichTable.grid(padding=(0, MARGIN))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(Text(name), Text(printable(value)))
    return table


def segments(table: SegmentTable, title: str, around: PhysRange | None) -> RenderableType:
    """The table with the title above, and the window to scale below."""
    parts: list[RenderableType] = [Text(title)] if title else []
    parts.append(_segment_grid(table))
    if legend := _colour_legend(table):
        parts.append(legend)
    if around:
        parts.append(_window_map(around, table))
    return Group(*parts)


def _colour_legend(table: SegmentTable) -> Text | None:
    """The meaning of the colours in a table, if there are colours."""
    if "NO_COLOR" in os.environ or os.environ.get("TERM") in ("dumb", "unknown", None):
        return None
    used = dict.fromkeys(str(item.source) for item in table.segments)
    return Text("colours: ").append(
        Text(", ").join(Text(LEGEND[name], STYLES[name]) for name in used)
    )


def _segment_grid(table: SegmentTable) -> RenderableType:
    """With the reasons in a separate column, or below if that is too wide."""
    rows = [plain.segment_row(*pair) for pair in enumerate(table.segments)]
    styles = [STYLES[str(item.source)] for item in table.segments]
    with_reasons = [(*row, item.why) for row, item in zip(rows, table.segments, strict=True)]
    head = (*plain.SEGMENT_HEAD, "why")
    if _fits(head, with_reasons, 2):
        return grid(head, with_reasons, 2, styles)
    reasons = facts((str(number), item.why) for number, item in enumerate(table.segments))
    return Group(grid(plain.SEGMENT_HEAD, rows, 1, styles), reasons)


def _window_map(around: PhysRange, table: SegmentTable) -> RenderableType:
    """`around` to scale: each character is the number (base 36) of a segment with contents
    that touches it, or a dot; the ends are under the bar."""
    cells = max(16, _width() - 2 * MARGIN)
    dot = "·" if _can_draw("·") else "."
    bar = Text("  ")
    for at in range(cells):
        piece = cell_range(around, at, cells)
        touching = [
            (number, item)
            for number, item in enumerate(table.segments)
            if item.bufsz and item.range.overlaps(piece)
        ]
        if touching:
            number, item = min(touching, key=lambda pair: pair[1].memsz)
            bar.append(_digit(number), STYLES[str(item.source)])
        else:
            bar.append(dot if holds(table.segments, piece) else " ", "dim")
    start, end = f"{around.start:#x}", f"{around.end:#x}"
    ends = Text(f"  {start}{end.rjust(max(cells - len(start), len(end) + 1))}", "dim")
    return Group(bar, ends)


def cell_range(around: PhysRange, at: int, cells: int) -> PhysRange:
    """The bytes that one character stands for, at least one."""
    start = around.start + around.size * at // cells
    end = around.start + around.size * (at + 1) // cells
    return PhysRange(start, max(end, start + 1))


def holds(segments: Iterable[Segment], piece: PhysRange) -> bool:
    return any(item.range.overlaps(piece) for item in segments)


def _digit(number: int) -> str:
    return "0123456789abcdefghijklmnopqrstuvwxyz"[number % 36]
