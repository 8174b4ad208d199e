"""What `exec` does."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from pykexec.backends.backend import LoadState, Slot
from pykexec.cli.output import Output
from pykexec.cli.report.started import StartedReport
from pykexec.cli.run import real, simulation, target
from pykexec.errors import KexecError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from pykexec.backends.kernel.backend import KernelBackend

QUESTION = "Start it now, without stopping services or unmounting file systems?"


def run(yes: bool, backend: str, machine_dir: Path | None, as_json: bool, verbose: int) -> None:
    output = Output(as_json, verbose)
    if backend == "kernel":
        target.check_machine_option(backend, machine_dir)
        start(real.backend(), yes)
        return
    where, simulated = simulation.machine(machine_dir, output)
    loaded = [slot for slot, state in simulated.status().items() if state is LoadState.LOADED]
    panics = loaded == [Slot.CRASH]
    switched = simulated.crash() if panics else simulated.exec()
    report = StartedReport(where, "crash" if panics else "exec", switched)
    output.show(report, "the image was started")


def start(kernel: KernelBackend, yes: bool) -> None:
    """Check everything, ask, and start the image."""
    with kernel.session():
        what = kernel.startable()
        _confirm(yes, what)
        kernel.start(what)


def _confirm(yes: bool, what: object) -> None:
    """Ask on a terminal; otherwise --yes is required."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            "standard input is not a terminal, so exec cannot ask for confirmation",
            hint="use --yes",
        )
    click.echo(f"{what}", err=True)
    if not click.confirm(QUESTION, err=True):
        raise KexecError("nothing was started")
