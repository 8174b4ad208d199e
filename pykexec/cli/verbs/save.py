"""pykexec save: what the capture kernel runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pykexec.cli.verbs.params import PATH, Verb, config_option, output_options

if TYPE_CHECKING:
    from pykexec.dump.report import Report
    from pykexec.flows.save.settings import Finally


@click.command(cls=Verb)
@click.option(
    "--vmcore",
    type=PATH,
    metavar="FILE",
    help="Save FILE instead of /proc/vmcore, and do not reboot.",
)
@config_option
@output_options
@click.pass_context
def command(
    ctx: click.Context, vmcore: Path | None, config: Path | None, as_json: bool, verbose: int
) -> None:
    """Save the crash dump of this capture kernel, and reboot.

    Log and report are saved first, then the dump. It is verified, old dumps are removed, and
    the machine reboots, as /etc/pykexec.conf says. Each step has a time limit. Where there is
    no /proc/vmcore, which only a capture kernel has, nothing is done.
    """
    from pykexec.backends.saving.ending import end_machine
    from pykexec.cli.output import Output
    from pykexec.cli.report.saved import SavedReport
    from pykexec.errors import CheckFailed, UsageError
    from pykexec.flows.save.saving import VMCORE, Saving
    from pykexec.flows.save.settings import read_settings

    if vmcore is None and not Path(VMCORE).exists():
        raise UsageError(
            f"there is no {VMCORE}: this is not a capture kernel",
            hint="a panic starts the capture kernel; --vmcore tries this on a file",
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
    if not done.complete:
        ctx.exit(CheckFailed.exit_status)


def say(line: str) -> None:
    """On standard error, which is the console of a capture kernel."""
    from pykexec.errors import printable

    click.echo(f"pykexec: {printable(line)}", err=True)


def makedumpfile() -> str | None:
    """Its path, if it is installed."""
    import shutil

    return shutil.which("makedumpfile")


def report_files(report: Report) -> dict[str, bytes]:
    """A report as text and as JSON, by the names of the files."""
    from pykexec.cli.out.plain import text
    from pykexec.cli.report.crash_cause import CrashCauseReport
    from pykexec.documents.codec import encode
    from pykexec.errors import printable
    from pykexec.flows.save.folders import REPORT, REPORT_JSON

    answer = CrashCauseReport(report)
    lines = [printable(line) + "\n" for line in text(answer.page(verbose=1))]
    return {
        REPORT: "".join(lines).encode("utf-8", "backslashreplace"),
        REPORT_JSON: encode(answer.document()).encode(),
    }
