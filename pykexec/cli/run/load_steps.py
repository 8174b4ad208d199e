"""What `load` does, depending on its options: a dry run, or a load with either system call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.cli import run as later
from pykexec.cli.output import Output
from pykexec.cli.report.load import LoadReport
from pykexec.cli.run import target
from pykexec.cli.run.load_wishes import LoadWishes
from pykexec.flows.checked_plan import decide
from pykexec.images.identify import identify
from pykexec.placement.implied import with_implied
from pykexec.placement.initrd import check_initrd

if TYPE_CHECKING:
    from pathlib import Path

    from pykexec.cli.report.file_load import FileLoadReport
    from pykexec.cli.run.load_options import LoadOptions


def run(kernel: Path, given: LoadOptions) -> None:
    output, asked = Output(given.as_json, given.verbose), LoadWishes(given)
    report = _dry_run(kernel, asked, output) if given.dry_run else load(kernel, asked, output)
    output.warn(report.warnings)
    for note in report.notes if given.verbose else ():
        output.note(note)
    output.show(report, report.effect)
    if report.target.notice and not given.dry_run:
        output.note(report.target.notice)


def _dry_run(kernel: Path, asked: LoadWishes, output: Output) -> LoadReport | FileLoadReport:
    """Decide and check as `load` does, with the facts of the selected machine."""
    given = asked.given
    where, machine = target.dry_run(
        given.backend, given.machine_dir, given.root, output, symbols=given.crash_by_normal
    )
    if given.backend == "kernel" and given.crash_by_normal:
        return later.load_acts.expected(kernel, asked, machine, where, output)
    choice = asked.syscall(machine)
    if choice and choice.is_file:
        return later.load_by_file.plan(kernel, asked, machine, where, choice)
    image = identify(kernel, given.image_type, given.profile)
    request = with_implied(image, asked.request)
    planned = decide(image, machine, request, initrd=check_initrd(image, request))
    return LoadReport(where, planned, machine, syscall=choice)


def load(kernel: Path, asked: LoadWishes, output: Output) -> LoadReport | FileLoadReport:
    """Load with the chosen system call. For a file that is no kernel, no machine is created."""
    given = asked.given
    if given.backend == "simulated" and later.simulation.is_missing(given.machine_dir):
        identify(kernel, given.image_type, given.profile)
    where, backend = target.chosen(given.backend, given.machine_dir, output, make=True)
    if where.notice and not output.as_json:  # an error must be the only text
        output.note(where.notice)
    machine = backend.machine()
    choice = asked.syscall(machine)
    if choice and choice.is_file:
        return later.load_by_file.load(kernel, asked, choice)
    return later.load_acts.load(kernel, asked, backend, machine, where, choice, output)
