"""pykexec status."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pykexec.cli.params import Verb, output_options, target_options

if TYPE_CHECKING:
    from pykexec.backends.backend import Backend
    from pykexec.cli.reports import StagedReport


@click.command(cls=Verb, short_help="Say what is loaded.")
@target_options
@output_options
def command(backend: str, machine_dir: Path | None, as_json: bool, verbose: int) -> None:
    """Say what is loaded: the normal image, the crash image, and what pykexec has staged.

    What is staged is looked at again: its addresses and its digests. Exit status 3 when
    nothing is loaded (unknown is not loaded), or when the stage is damaged.
    """
    from pykexec.cli import target
    from pykexec.cli.output import Output
    from pykexec.cli.reports import StatusReport
    from pykexec.errors import CheckFailed

    output = Output(as_json, verbose)
    where, acting = target.chosen(backend, machine_dir, output)
    report = StatusReport(where, acting.status(), staged(acting))
    output.show("status", report)
    if not report.anything or (report.staged and report.staged.problem):
        raise click.exceptions.Exit(CheckFailed.exit_status)


def staged(acting: Backend) -> StagedReport | None:
    """Only the real kernel has a stage."""
    from pykexec.backends.backend import LoadState
    from pykexec.backends.kernel.backend import KernelBackend
    from pykexec.backends.kernel.stage import NotStaged
    from pykexec.backends.kernel.staged import StageChanged
    from pykexec.cli.reports import StagedReport

    if not isinstance(acting, KernelBackend):
        return None
    record = acting.records.read()
    if record is None:
        return None
    problem = None
    if acting.status()[record.slot] is LoadState.NOT_LOADED:
        problem = f"the {record.slot} image is not loaded any more: it was freed by others"
    try:
        acting.staged.check()
    except (StageChanged, NotStaged) as error:
        problem = error.message
    return StagedReport(record, acting.staged.page_count(), problem)
