"""What `rehearse` does."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from pykexec.cli.output import Output
from pykexec.cli.report.least import LeastReport
from pykexec.cli.report.rehearsal import RehearsalReport
from pykexec.errors import CheckFailed, UsageError
from pykexec.flows.rehearse.least import least_window
from pykexec.flows.rehearse.qemu import QemuMachine, rehearse_in_qemu
from pykexec.flows.rehearse.simulated import NoProgress, Progress, RehearsalMachine, rehearse
from pykexec.images.contents import joined_initrd
from pykexec.placement.request import LoadRequest, Mode

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from pykexec.cli.out.bar import Bar

ONLY_WITH = {
    "guest_root": "qemu",
    "least": "qemu",
    "seed": "simulated",
    "allocator": "simulated",
    "relocate": "simulated",
}
"""Options that only one engine supports."""
MARGIN = 16 << 20
"""Default margin of --least, in bytes."""
QUIET = 1.0
"""Seconds after which steps are printed."""


class Steps:
    """Progress: a line for each step, after `quiet` seconds, above a bar if there is one."""

    def __init__(self, quiet: float | None = None, bar: Bar | None = None) -> None:
        self.quiet = QUIET if quiet is None else quiet
        self.start = time.monotonic()
        self.bar = bar

    def step(self, text: str) -> None:
        line = f"pykexec: {text}" if time.monotonic() - self.start >= self.quiet else None
        if self.bar:
            self.bar.step(text)
        if line and self.bar:
            self.bar.line(line)
        elif line:
            click.echo(line, err=True)


@contextmanager
def progress(shown: bool, quiet: float | None = None) -> Iterator[Progress]:
    """What shows the steps; on a terminal with a bar."""
    if not shown:
        yield NoProgress()
    elif sys.stderr.isatty():
        from pykexec.cli.out.bar import Bar

        with Bar() as bar:
            yield Steps(quiet, bar)
    else:
        yield Steps(quiet)


def run(kernel: Path, given: Collection[str], options: dict[str, Any]) -> int:
    """Rehearse; returns the exit status. `given` has the names of the options that the user
    gave."""
    _check_engine(given, options)
    _check_least(given, options["least"])
    request = LoadRequest(
        initrd=joined_initrd(options["initrds"]),
        append=options["append"],
        mem_min=options["mem_min"],
        mem_max=options["mem_max"],
        crash_size=options["crash_size"],
        profile=options["profile"],
        mode=Mode(options["mode"]) if options["mode"] else None,
        initrd_check=not options["no_initrd_check"],
    )
    output = Output(options["as_json"], options["verbose"])
    memory, used, image_type = options["memory"], options["used"], options["image_type"]
    system = os.fspath(options["guest_root"]) if options["guest_root"] else None
    real = QemuMachine(memory, used, system=system)
    if options["least"]:
        margin = MARGIN if options["margin"] is None else options["margin"]
        with progress(not output.as_json, quiet=0) as steps:
            found = least_window(kernel, request, image_type, real, margin, steps)
        output.show(LeastReport(found))
        return 0
    with progress(not output.as_json) as steps:
        if options["engine"] == "qemu":
            report = rehearse_in_qemu(kernel, request, image_type, real, steps)
        else:
            stage = RehearsalMachine(
                memory, used, *(options[key] for key in ("allocator", "relocate", "seed"))
            )
            report = rehearse(kernel, request, image_type, stage, steps)
    output.warn(report.load.warnings)
    output.show(RehearsalReport(report))
    return 0 if report.good else CheckFailed.exit_status


def _check_engine(given: Collection[str], options: dict[str, Any]) -> None:
    """Check the options of the engine. Raises UsageError for one without effect."""
    modes = {} if options["mode"] == Mode.LENT else {"mode": "qemu"}
    for name, only in {**ONLY_WITH, **modes}.items():
        if name in given and only != options["engine"]:
            value = f" {options[name]}" if name == "mode" else ""
            raise UsageError(
                f"--{name.replace('_', '-')}{value} is for --engine {only}",
                hint="see pykexec rehearse --help",
            )


def _check_least(given: Collection[str], least: bool) -> None:
    """Check the options of --least. Raises UsageError for one without effect."""
    if "margin" in given and not least:
        raise UsageError("--margin is for --least", hint="see pykexec rehearse --help")
    if "crash_size" in given and least:
        raise UsageError(
            "--least and --crash-size exclude each other: --least searches for the size",
            hint="see pykexec rehearse --help",
        )
