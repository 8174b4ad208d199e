"""What a command has to say, as blocks: plain.py writes them, render.py draws them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pykexec.frozen import dataclass

if TYPE_CHECKING:
    from pykexec.memory.ranges import PhysRange
    from pykexec.placement.segment import SegmentTable

Row = tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """name  value."""

    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Table:
    """On a terminal the last `words` columns may be folded, the others never are."""

    head: Row
    rows: Sequence[Row]
    words: int = 1
    styles: Sequence[str] = ()
    """Of the rows, as rich names them."""


@dataclass(frozen=True)
class Segments:
    """The seed's table; drawn with its reasons, and `around` to scale below it."""

    table: SegmentTable
    title: str = ""
    around: PhysRange | None = None


@dataclass(frozen=True)
class Reasons:
    """Why each segment is where it is; drawn, they are beside the segments already."""

    table: SegmentTable


@dataclass(frozen=True)
class Remedies:
    """Rows of level, name, what was found, and what would help, "" for nothing: below its row
    in plain text, a column of its own when drawn."""

    head: Row
    rows: Sequence[Row]
    styles: Sequence[str]


@dataclass(frozen=True)
class Lines:
    """As they are."""

    lines: Sequence[str]
    style: str = ""


Block = Facts | Table | Segments | Reasons | Remedies | Lines
