"""pykexec exec."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pykexec.cli.verbs.params import Verb, output_options, target_options

if TYPE_CHECKING:
    from pykexec.backends.kernel.backend import KernelBackend

QUESTION = "Start it now? Nothing is unmounted, no service is stopped, and this does not return"


@click.command(cls=Verb, short_help="Start the loaded image.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@target_options
@output_options
def command(yes: bool, backend: str, machine_dir: Path | None, as_json: bool, verbose: int) -> None:
    """Start the loaded image immediately.

    On the real kernel everything is checked first, and nothing happens if it is unknown
    whether an image is loaded. The network is not shut down. An image that a panic starts
    is started by causing that panic. To stop services first, use `systemctl kexec`.
    """
    from pykexec.backends.backend import LoadState, Slot
    from pykexec.cli.output import Output
    from pykexec.cli.report.started import StartedReport
    from pykexec.cli.verbs import target

    output = Output(as_json, verbose)
    if backend == "kernel":
        target.check_machine_option(backend, machine_dir)
        start(target.kernel_backend(), yes)
        return
    where, simulated = target.simulated(machine_dir, output)
    loaded = [slot for slot, state in simulated.status().items() if state is LoadState.LOADED]
    panics = loaded == [Slot.CRASH]
    switched = simulated.crash() if panics else simulated.exec()
    report = StartedReport(where, "crash" if panics else "exec", switched)
    output.show(report, "the image was started")


def start(kernel: KernelBackend, yes: bool) -> None:
    """Everything is checked, then asked, then done."""
    with kernel.session():
        what = kernel.startable()
        confirm(yes, what)
        kernel.start(what)


def confirm(yes: bool, what: object) -> None:
    """Asks on a terminal; elsewhere --yes has to be given."""
    from pykexec.errors import KexecError, UsageError

    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            "exec asks before it starts anything", hint="--yes where nobody can answer"
        )
    click.echo(f"{what}", err=True)
    if not click.confirm(QUESTION, err=True):
        raise KexecError("nothing was started, as you wished")
