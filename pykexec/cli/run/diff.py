"""What `diff` does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.cli.output import Output
from pykexec.cli.report.diff import DiffReport
from pykexec.errors import CheckFailed
from pykexec.flows.diff import diff

if TYPE_CHECKING:
    from pathlib import Path


def run(a: Path, b: Path, as_json: bool, verbose: int) -> int:
    """Compare two plans; returns the exit status."""
    found = diff(a, b)
    Output(as_json, verbose).show(DiffReport(found))
    return 0 if found.same else CheckFailed.exit_status
