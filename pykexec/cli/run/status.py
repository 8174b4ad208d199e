"""What `status` does."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from pykexec.backends.backend import LoadState
from pykexec.backends.kernel.backend import KernelBackend
from pykexec.backends.kernel.stage import NotStaged
from pykexec.backends.kernel.staged import StageChanged
from pykexec.backends.simulated import SimulatedBackend
from pykexec.backends.simulated.store.machine_folder import STATE
from pykexec.cli import run as later
from pykexec.cli.out.openmetrics import write_textfile
from pykexec.cli.output import Output
from pykexec.cli.report.monitoring import judge, metrics_text, plugin_line
from pykexec.cli.report.status import StagedReport, StatusReport
from pykexec.cli.report.target import Target
from pykexec.cli.run import target
from pykexec.cli.run.simulation import own_machine
from pykexec.errors import CheckFailed, KexecError, NotPermitted, UsageError, printable
from pykexec.flows.save.saved import newest_saved
from pykexec.flows.save.settings import read_settings
from pykexec.host import configuration
from pykexec.host.lock import Busy, locked

if TYPE_CHECKING:
    from pathlib import Path

    from pykexec.backends.backend import Backend, Slot

CHANGING = "another pykexec is loading or unloading"
UNKNOWN_SERVICE = 3
"""Exit status of a plugin with an unknown result."""


def run(
    both: bool,
    backend: str,
    machine_dir: Path | None,
    metrics: bool,
    textfile: Path | None,
    nagios: bool,
    as_json: bool,
    verbose: int,
) -> int:
    """The exit status. `both` are the real kernel and the simulated machine that pykexec uses by
    default, where there is one."""
    if sum((metrics, nagios, as_json)) > 1:
        raise UsageError("--metrics, --nagios and --json exclude each other")
    output = Output(as_json, verbose)
    try:
        if both and machine_dir is None:
            report = beside_simulation(later.real.backend(), own_machine())
        else:
            report = look(*target.chosen(backend, machine_dir, output))
    except KexecError as error:
        if not nagios:
            raise
        click.echo(f"PYKEXEC UNKNOWN - {printable(error.message)}")
        return UNKNOWN_SERVICE
    if report.target.backend == "kernel":
        report = replace(report, last=newest_saved(read_settings()[0]))
    text = metrics_text(report, int(time.time())) if metrics or textfile else ""
    written = textfile is None or report.changing or write_textfile(textfile, text, output.warn)
    if nagios:
        click.echo(plugin_line(report))
        return judge(report).service
    if metrics:
        click.echo(text, nl=False)
    else:
        output.show(report)
    if report.changing:  # nothing was verified, and no image need be loaded at this moment
        return Busy.exit_status
    if not counted(report).anything or (report.staged and report.staged.problem):
        return CheckFailed.exit_status
    return 0 if written else KexecError.exit_status


def beside_simulation(real: KernelBackend, folder: Path) -> StatusReport:
    """The real kernel's, with that of the simulated machine in `folder`."""
    report = look(Target("kernel", "this machine"), real)
    if not (folder / STATE).exists():
        return report
    where = Target("simulated", f"machine {folder}", unnamed=True)
    return replace(report, simulated=look(where, SimulatedBackend.open(folder)))


def counted(report: StatusReport) -> StatusReport:
    """The one that the exit status is about: the real kernel's, unless only a simulation is loaded
    and there is no /etc/pykexec.conf."""
    if report.simulated is None or report.anything or os.path.exists(configuration.PATH):
        return report
    return report.simulated


def look(where: Target, acting: Backend) -> StatusReport:
    """The state of both slots, and the reason for one that is unknown."""
    if not isinstance(acting, KernelBackend):
        return StatusReport(where, acting.status())
    return replace(_seen(where, acting), unknown=acting.unknown())


def _seen(where: Target, acting: KernelBackend) -> StatusReport:
    """Only the real kernel has a stage. It is verified under the lock, because an unfinished load
    is not damage; others may verify it at the same time. Never raises Busy: what needs no lock is
    reported."""
    try:
        if acting.records.read() is None and not acting.left_pages and not acting.left_blocks:
            return StatusReport(where, acting.status())
    except NotPermitted:
        return StatusReport(where, acting.status(), unseen="only root can verify it")
    try:
        with locked(acting.folder, alone=False):
            slots = acting.status()
            return StatusReport(
                where,
                slots,
                staged(acting, slots),
                left_blocks=acting.left_blocks,
                left_pages=acting.left_pages,
            )
    except Busy:
        return StatusReport(where, acting.status(), unseen=CHANGING, changing=True)


def staged(acting: KernelBackend, slots: dict[Slot, LoadState]) -> StagedReport | None:
    """What pykexec recorded, and whether it is still correct."""
    record = acting.records.read()
    if record is None:
        return None
    problem = None
    if slots[record.slot] is LoadState.NOT_LOADED:
        problem = f"the {record.slot} image is no longer loaded: another program has freed it"
    try:
        acting.check()
    except (StageChanged, NotStaged) as error:
        problem = error.message
    problem = problem or acting.outdated(record)
    return StagedReport(record, acting.staged.page_count(), problem)
