"""A comparison, drawn on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from pykexec.cli import plain_diff
from pykexec.cli.render import grid

if TYPE_CHECKING:
    from pykexec.plan_diff import PlanDiff


def diff(found: PlanDiff, verbose: int = 0) -> RenderableType:
    parts: list[RenderableType] = []
    if found.fields:
        parts.append(grid(plain_diff.FIELD_HEAD, plain_diff.field_rows(found), 2))
    if found.pieces:
        parts.append(grid(plain_diff.PIECE_HEAD, plain_diff.piece_rows(found), 0))
    style = "bold green" if found.same else "bold"
    return Group(*parts, Text(plain_diff.diff_verdict(found), style))
