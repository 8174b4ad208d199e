"""What `save` does in a capture kernel."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pykexec.backends.saving.ending import end_machine
from pykexec.cli.output import Output
from pykexec.cli.report.saved import SavedReport
from pykexec.errors import CheckFailed, UsageError, printable
from pykexec.flows.save.folders import REPORT, REPORT_JSON
from pykexec.flows.save.saving import VMCORE, Saving
from pykexec.flows.save.settings import read_settings

if TYPE_CHECKING:
    from pykexec.dump.report import Report
    from pykexec.flows.save.settings import Finally


def run(vmcore: Path | None, config: Path | None, as_json: bool, verbose: int) -> int:
    """Save the dump; returns the exit status."""
    if vmcore is None and not Path(VMCORE).exists():
        raise UsageError(
            f"there is no {VMCORE}: this is not a capture kernel",
            hint="a panic starts the capture kernel; use --vmcore to try this on a file",
        )
    action: Finally = "reboot"
    try:
        settings, faults = read_settings(config)
        action = settings.finally_
        saving = Saving(settings, str(vmcore or VMCORE), makedumpfile(), report_files, say)
        saving.problems += [fault.message for fault in faults]
        for problem in saving.problems:
            say(problem)
        done = saving.run()
        Output(as_json, verbose).show(SavedReport(done))
    finally:
        if vmcore is None:
            end_machine(action, say)
    return 0 if done.complete else CheckFailed.exit_status


def say(line: str) -> None:
    """Print on standard error, which is the console of a capture kernel."""
    click.echo(f"pykexec: {printable(line)}", err=True)


def makedumpfile() -> str | None:
    """The path of makedumpfile, if it is installed."""
    return shutil.which("makedumpfile")


def report_files(report: Report) -> dict[str, bytes]:
    """A report as text and as JSON, by file name. Imports happen here, because the log is saved
    first, with little memory."""
    from pykexec.cli.out.plain import text
    from pykexec.cli.report.crash_cause import CrashCauseReport
    from pykexec.documents.codec import encode

    answer = CrashCauseReport(report)
    lines = [printable(line) + "\n" for line in text(answer.page(verbose=1))]
    return {
        REPORT: "".join(lines).encode("utf-8", "backslashreplace"),
        REPORT_JSON: encode(answer.document()).encode(),
    }
