"""Values as rich renderables, for a terminal; each has a twin in plain.py.

The only module that imports rich. Kernel text goes into rich.text.Text and nowhere
else: in a plain string rich reads `[init=/bin/sh]` as markup.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from pykexec.cli import plain
from pykexec.cli.output import printable
from pykexec.memory.ranges import PhysRange
from pykexec.placement.segment import SegmentTable

if TYPE_CHECKING:
    from pykexec.cli.reports import (
        FileLoadReport,
        LoadReport,
        StartedReport,
        StatusReport,
        UnloadReport,
    )
    from pykexec.placement.segment import Segment

STYLES = {"file": "cyan", "built": "yellow", "memory-only": "dim"}
VERDICT_STYLES = {"ok": "green", "broken": "red", "unknown": "yellow"}
TEXT_MIN = 18
"""The least width at which a column of words can still be read."""
FRAME = 3
"""What a column's padding and border take."""
MARGIN = 2


def draw(item: RenderableType) -> None:
    """On stdout, without markup, highlighting or emoji codes."""
    console = Console(file=sys.stdout, markup=False, highlight=False, emoji=False)
    console.print(item)


def width() -> int:
    return shutil.get_terminal_size().columns


def can_draw(text: str) -> bool:
    """Whether the terminal's encoding has these characters."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def grid(
    head: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1, styles: Sequence[str] = ()
) -> RenderableType:
    """A table whose last `words` columns may be folded and whose others never are; where
    the terminal is too narrow even so, the plain columns, which it wraps."""
    cells = [tuple(row) for row in rows]
    if not fits(head, cells, words):
        return plain_lines(plain.columns([tuple(head), *cells]))
    table = Table(box=box.ROUNDED, header_style="bold")
    for at, name in enumerate(head):
        table.add_column(name, no_wrap=at < len(head) - words, overflow="fold")
    for at, row in enumerate(cells):
        style = styles[at] if styles else ""
        table.add_row(*(Text(printable(cell), style) for cell in row))
    return table


def fits(head: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> bool:
    """Whether every column but the last `words` has its full width, and those enough to
    be read."""
    fixed = range(len(head) - words)
    need = sum(max(len(row[at]) for row in (head, *rows)) + FRAME for at in fixed)
    return need + words * (TEXT_MIN + FRAME) + 1 <= width()


def plain_lines(lines: Iterable[str]) -> RenderableType:
    """As they are: the terminal wraps them, nothing is cut."""
    return Text("\n".join(printable(line) for line in lines), overflow="fold", no_wrap=False)


def facts(pairs: Iterable[tuple[str, str]]) -> RenderableType:
    """name  value, the value folded under itself."""
    table = Table.grid(padding=(0, MARGIN))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(Text(name), Text(printable(value)))
    return table


def load(report: LoadReport, verbose: int = 0) -> RenderableType:
    """The table with its reasons, the window to scale, and the facts."""
    plan, table = report.planned.plan, report.planned.table
    parts: list[RenderableType] = []
    if plan.stage:
        waiting = SegmentTable(tuple(item.segment for item in plain.staged(plan)), plan.entry)
        parts += [Text(plain.STAGE_HEAD), segment_grid(waiting), Text(plain.STUB_HEAD)]
        window = window_map(plan.stage.window, waiting)
        parts = [*parts, segment_grid(table), window, Text()]
    else:
        parts.append(segment_grid(table))
    around = plan.window or whole_span(table)
    if around and not plan.stage:
        parts += [window_map(around, table), Text()]
    parts.append(facts(plain.load_facts(report)))
    if report.done and report.done.bound:
        parts.append(facts(plain.bound_facts(report.done.bound)))
    if verbose:
        parts += [Text(), check_grid(report), Text()]
        parts.append(plain_lines(plain.word_lines(plan.cmdline)))
        if plan.estimate:
            parts += [Text(), plain_lines(plain.estimate_lines(plan.estimate))]
    return Group(*parts)


def segment_grid(table: SegmentTable) -> RenderableType:
    """With the reasons in a column of their own, or where that is too wide, below."""
    rows = [plain.segment_row(*pair) for pair in enumerate(table.segments)]
    styles = [STYLES[str(item.source)] for item in table.segments]
    with_reasons = [(*row, item.why) for row, item in zip(rows, table.segments, strict=True)]
    head = (*plain.SEGMENT_HEAD, "why")
    if fits(head, with_reasons, 2):
        return grid(head, with_reasons, 2, styles)
    reasons = facts((str(number), item.why) for number, item in enumerate(table.segments))
    return Group(grid(plain.SEGMENT_HEAD, rows, 1, styles), reasons, Text())


def check_grid(report: LoadReport) -> RenderableType:
    rows = [(item.rule, plain.verdict(item.ok), item.detail) for item in report.planned.checks]
    styles = [VERDICT_STYLES[row[1]] for row in rows]
    return grid(("check", "", "found"), rows, styles=styles)


def whole_span(table: SegmentTable) -> PhysRange | None:
    """From the first segment to the last, where no window was asked for."""
    if not table.segments:
        return None
    return PhysRange(table.segments[0].mem, max(item.range.end for item in table.segments))


def window_map(around: PhysRange, table: SegmentTable) -> RenderableType:
    """`around` to scale: each character is the number (base 36) of a segment with contents
    that touches it, or a dot; the ends are under the bar."""
    cells = max(16, width() - 2 * MARGIN)
    dot = "·" if can_draw("·") else "."
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
            bar.append(digit(number), STYLES[str(item.source)])
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


def digit(number: int) -> str:
    return "0123456789abcdefghijklmnopqrstuvwxyz"[number % 36]


def file_load(report: FileLoadReport, verbose: int = 0) -> RenderableType:
    return facts(plain.file_load_facts(report))


def started(report: StartedReport, verbose: int = 0) -> RenderableType:
    return facts(plain.started_facts(report))


def status(report: StatusReport, verbose: int = 0) -> RenderableType:
    return facts(plain.status_facts(report))


def unload(report: UnloadReport, verbose: int = 0) -> RenderableType:
    return facts(plain.unload_facts(report))
