"""The result of `doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykexec.cli.out.blocks import Block, Lines, Remedies
from pykexec.cli.terms import PYKEXEC
from pykexec.documents.findings import Doctor, DoctorRow
from pykexec.flows.doctor import problems
from pykexec.remedies import advised

if TYPE_CHECKING:
    from pykexec.flows.doctor import Row

LEVEL_STYLES = {"ok": "green", "warn": "yellow", "fail": "red", "unknown": "magenta"}


@dataclass(frozen=True)
class DoctorReport:
    """One row for each precondition of `machine`."""

    machine: str
    rows: tuple[Row, ...]

    @property
    def problems(self) -> tuple[Row, ...]:
        """The rows that make a load fail."""
        return tuple(problems(self.rows))

    def document(self) -> Doctor:
        rows = (
            DoctorRow(item.name, item.level.value, item.evidence, fix(item) or None)
            for item in self.rows
        )
        return Doctor(self.machine, len(self.problems), tuple(rows))

    def page(self, verbose: int) -> list[Block]:
        rows = [(str(row.level), row.name, row.evidence, fix(row)) for row in self.rows]
        levels = [row[0] for row in rows]
        counts = ", ".join(f"{levels.count(level)} {level}" for level in dict.fromkeys(levels))
        return [
            Remedies(("", "what", "found", "fix"), rows, [LEVEL_STYLES[level] for level in levels]),
            Lines([f"{self.machine}: {counts}"], "bold"),
        ]


def fix(row: Row) -> str:
    """What would help, in this program's terms."""
    return advised(row.fix, PYKEXEC)
