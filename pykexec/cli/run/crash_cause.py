"""What `vmcore report` does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.cli.output import Output
from pykexec.cli.report.crash_cause import CrashCauseReport
from pykexec.cli.watched import watched
from pykexec.dump.reader import open_dump
from pykexec.dump.report import make_report

if TYPE_CHECKING:
    from pathlib import Path


def report(file: Path, as_json: bool, verbose: int) -> None:
    with watched(not as_json) as watch:
        watch("the file", 0)
        found = make_report(open_dump(str(file)), watch)
    Output(as_json, verbose).show(CrashCauseReport(found))
