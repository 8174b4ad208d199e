"""The output of a command as blocks: plain.py writes them, render.py draws them."""

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
    """On a terminal only the last `words` columns may be wrapped."""

    head: Row
    rows: Sequence[Row]
    words: int = 1
    styles: Sequence[str] = ()
    """Styles of the rows, with the names of rich."""


@dataclass(frozen=True)
class Segments:
    """The segment table; drawn with its reasons, and with `around` to scale below it."""

    table: SegmentTable
    title: str = ""
    around: PhysRange | None = None


@dataclass(frozen=True)
class Reasons:
    """Why each segment is where it is; when drawn, the reasons are part of the table."""

    table: SegmentTable


@dataclass(frozen=True)
class Remedies:
    """Rows of level, name, what was found, and what would help, or "": below its row in plain text,
    a separate column when drawn."""

    head: Row
    rows: Sequence[Row]
    styles: Sequence[str]


@dataclass(frozen=True)
class Lines:
    """Lines without formatting."""

    lines: Sequence[str]
    style: str = ""


Block = Facts | Table | Segments | Reasons | Remedies | Lines
