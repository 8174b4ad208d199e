"""The rows of `fleet plan`, and their summary."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pykexec.cli.report.page_parts import many, size
from pykexec.cli.terms import PYKEXEC
from pykexec.documents.fleet import (
    FleetOutcome,
    FleetPlan,
    FleetReason,
    FleetRefusal,
    FleetRow,
    FleetSummary,
)
from pykexec.flows.fleet import Armed, Outcome, Refused, Row
from pykexec.remedies import Advice, advised

if TYPE_CHECKING:
    from collections.abc import Iterable

NAME_MIN, NAME_MAX = 32, 64
"""Columns for the name of a machine; a longer name has a line of its own."""
Reason = tuple[str, str]
"""The code of a refusal, and its hint without the numbers of the machine."""
NUMBER = re.compile(r"0x[0-9a-f]+|[0-9]+")
REASONS_MAX = 64
"""Beyond this number of different reasons, those with the same code are one."""


def name_width(names: Iterable[str]) -> int:
    """The columns that these names need."""
    return min(max([NAME_MIN, *map(len, names)]), NAME_MAX)


def heading(width: int) -> str:
    return f"{'machine':<{width}}  {'mode':<11}  {'region':<8}  {'window':>8}  {'held':>8}"


def row_document(row: Row) -> FleetRow:
    compared = _outcome_document(row.compared) if row.compared else None
    return FleetRow(row.machine, _outcome_document(row.outcome), compared)


def _outcome_document(outcome: Outcome) -> FleetOutcome:
    if isinstance(outcome, Refused):
        return FleetOutcome(
            None, FleetRefusal(outcome.code, outcome.message, _worded(outcome.hint))
        )
    return FleetOutcome(
        FleetPlan(
            outcome.mode.value,
            outcome.makes_region,
            outcome.after_reboot,
            outcome.window_size,
            outcome.held,
            outcome.warnings,
        ),
        None,
    )


def row_lines(row: Row, verbose: int, width: int) -> list[str]:
    """The machine, with `width` columns for its name; with -v also its warnings, or what would
    help."""
    lines = _outcome_lines(row.machine, row.outcome, width)
    if row.compared:
        lines += _outcome_lines("  with the other kernel", row.compared, width)
    if verbose:
        lines += [f"  {text}" for text in _remarks(row.outcome)]
    return lines


def _outcome_lines(name: str, outcome: Outcome, width: int) -> list[str]:
    if len(name) > width:
        return [name, *_outcome_lines("", outcome, width)]
    return [f"{name:<{width}}  {_outcome_text(outcome)}"]


def _outcome_text(outcome: Outcome) -> str:
    if isinstance(outcome, Refused):
        return f"refused: {outcome.message}"
    line = f"{outcome.mode:<11}  {_region_text(outcome):<8}  "
    line += f"{size(outcome.window_size):>8}  {size(outcome.held):>8}"
    count = len(outcome.warnings)
    return line + (f"  {count} warning{'s' if count > 1 else ''}" if count else "")


def _region_text(outcome: Armed) -> str:
    if outcome.after_reboot:
        return "reboot"
    return "run time" if outcome.makes_region else "present"


def _remarks(outcome: Outcome) -> list[str]:
    if isinstance(outcome, Refused):
        return [f"hint: {_worded(outcome.hint)}"] if outcome.hint else []
    return [f"warning: {text}" for text in outcome.warnings]


@dataclass
class Summary:
    """Counts of all rows, added one by one; its size depends on the kinds of refusals, not on the
    rows."""

    compares: bool
    machines: int = 0
    changed: int = 0
    broken: int = 0
    """Machines that the compared kernel cannot arm, whatever the first one can do."""
    after_reboot: int = 0
    held: int = 0
    modes: Counter[str] = field(default_factory=Counter)
    refused: Counter[Reason] = field(default_factory=Counter)
    examples: dict[Reason, tuple[str, Refused]] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        self.machines += 1
        self.changed += row.changed
        self.broken += isinstance(row.compared, Refused)
        found = row.outcome
        if isinstance(found, Refused):
            reason = self._reason(found)
            self.refused[reason] += 1
            self.examples.setdefault(reason, (row.machine, found))
        else:
            self.modes[found.mode.value] += 1
            self.after_reboot += found.after_reboot
            self.held += found.held

    def _reason(self, found: Refused) -> Reason:
        """The same code can have several causes, which the remedies tell apart."""
        reason = (found.code, NUMBER.sub("0", _worded(found.hint) or ""))
        if reason in self.refused or len(self.refused) < REASONS_MAX:
            return reason
        return (found.code, "")

    @property
    def cannot_be_armed(self) -> int:
        return self.refused.total()

    def document(self) -> FleetSummary:
        return FleetSummary(
            machines=self.machines,
            can_be_armed=self.modes.total(),
            cannot_be_armed=self.cannot_be_armed,
            changed=self.changed if self.compares else None,
            compared_cannot_be_armed=self.broken if self.compares else None,
            after_reboot=self.after_reboot,
            held=self.held,
            modes=dict(sorted(self.modes.items())),
            reasons=tuple(self.reasons()),
        )

    def reasons(self) -> list[FleetReason]:
        """The reasons of refusals, the most frequent first."""
        found = []
        for reason, count in sorted(self.refused.items(), key=lambda item: (-item[1], item[0])):
            machine, first = self.examples[reason]
            hint = _worded(first.hint)
            found.append(FleetReason(first.code, count, machine, first.message, hint))
        return found

    def lines(self) -> list[str]:
        modes = ", ".join(f"{count} {mode}" for mode, count in sorted(self.modes.items()))
        lines = [
            f"{self.modes.total()} of {self.machines} machines can be armed"
            + (f": {modes}; {size(self.held)} held in total" if modes else "")
        ]
        if self.after_reboot:
            lines.append(
                f"{many(self.after_reboot, 'machine')} must reboot once, with the reservation that "
                "pykexec setup configures"
            )
        if self.compares:
            lines.append(
                f"the other kernel changes {self.changed} machines, and cannot be armed on "
                f"{self.broken} of {self.machines}"
            )
        for reason in self.reasons():
            lines.append(f"{reason.machines} refused ({reason.code}), such as {reason.example}:")
            lines.append(f"  {reason.message}")
            if reason.hint:
                lines.append(f"  hint: {reason.hint}")
        return lines


def _worded(hint: Advice | None) -> str | None:
    return advised(hint, PYKEXEC) if hint else None
