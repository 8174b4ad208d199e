"""pykexec status."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pykexec.cli.verbs.params import Verb, output_options, target_options

if TYPE_CHECKING:
    from pykexec.backends.backend import Backend, LoadState, Slot
    from pykexec.backends.kernel.backend import KernelBackend
    from pykexec.cli.report.status import StagedReport, StatusReport
    from pykexec.cli.report.target import Target


@click.command(cls=Verb, short_help="Show what is loaded.")
@target_options
@output_options
def command(backend: str, machine_dir: Path | None, as_json: bool, verbose: int) -> None:
    """Show the normal image, the crash image, and what pykexec keeps in memory for them.

    For a crash by normal, verify the addresses and digests of what waits in huge pages, and
    that the kernel still holds the image that starts it. The exit status is 3 if nothing is
    loaded or it is unknown, if a verification fails, or if another program has replaced the
    image.
    """
    from pykexec.cli.output import Output
    from pykexec.cli.verbs import target
    from pykexec.errors import CheckFailed

    output = Output(as_json, verbose)
    report = look(*target.chosen(backend, machine_dir, output))
    output.show(report)
    if not report.anything or (report.staged and report.staged.problem):
        raise click.exceptions.Exit(CheckFailed.exit_status)


def look(where: Target, acting: Backend) -> StatusReport:
    """Only the real kernel has a stage. It is looked at while nobody changes it: what a load has
    not finished yet is no damage. Raises Busy."""
    from pykexec.backends.kernel.backend import KernelBackend
    from pykexec.cli.report.status import StatusReport

    if not isinstance(acting, KernelBackend) or acting.records.read() is None:
        return StatusReport(where, acting.status())
    with acting.session():
        slots = acting.status()
        return StatusReport(where, slots, staged(acting, slots))


def staged(acting: KernelBackend, slots: dict[Slot, LoadState]) -> StagedReport | None:
    """What pykexec noted, and whether it is so."""
    from pykexec.backends.backend import LoadState
    from pykexec.backends.kernel.stage import NotStaged
    from pykexec.backends.kernel.staged import StageChanged
    from pykexec.cli.report.status import StagedReport

    record = acting.records.read()
    if record is None:
        return None
    problem = None
    if slots[record.slot] is LoadState.NOT_LOADED:
        problem = f"the {record.slot} image is not loaded any more: it was freed by others"
    try:
        acting.check()
    except (StageChanged, NotStaged) as error:
        problem = error.message
    return StagedReport(record, acting.staged.page_count(), problem)
