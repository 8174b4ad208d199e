"""pykexec doctor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pykexec.cli.verbs.params import PATH, Verb, output_options

if TYPE_CHECKING:
    from pykexec.flows.doctor import Ours


@click.command(cls=Verb, short_help="Check whether this machine is ready, and how to make it so.")
@click.option(
    "--root",
    type=PATH,
    metavar="PATH",
    help="Examine a captured machine (file or folder).",
)
@output_options
@click.pass_context
def command(ctx: click.Context, root: Path | None, as_json: bool, verbose: int) -> None:
    """Check every precondition of a load: show what was read, and how to mend what is missing.

    The exit status is 3 if a load would fail.
    """
    from pykexec.cli.output import Output
    from pykexec.cli.report.doctor import DoctorReport
    from pykexec.errors import CheckFailed
    from pykexec.flows.doctor import diagnose
    from pykexec.host.capture import open_root
    from pykexec.host.facts import read_machine
    from pykexec.host.root import THIS_MACHINE

    machine = read_machine(open_root(root) if root else THIS_MACHINE)
    report = DoctorReport(machine.name, diagnose(machine, None if root else noted_here()))
    Output(as_json, verbose).show(report)
    if report.problems:
        ctx.exit(CheckFailed.exit_status)


def noted_here() -> Ours:
    """What pykexec has loaded into this kernel; unknown without the right to look."""
    from pykexec.backends.kernel.bays import Bays
    from pykexec.backends.kernel.record import BadRecord
    from pykexec.errors import NotPermitted
    from pykexec.host.lock import RUN_FOLDER
    from pykexec.machine import Unknown

    try:
        return Bays(RUN_FOLDER).used.records.read()
    except (BadRecord, NotPermitted) as error:
        return Unknown(error.message)
