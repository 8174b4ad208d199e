"""pykexec machine: simulated machines in folders, and the facts of this one in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pykexec.cli.verbs.params import PATH, SIZE, Verb, frames_options, output_options


@click.group()
def command() -> None:
    """Simulated machines in folders, and facts of real ones."""


@command.command("create", cls=Verb, short_help="A new simulated machine.")
@click.argument("folder", type=PATH, metavar="DIR")
@click.option("--memory", type=SIZE, metavar="SIZE", help="RAM.  [default: 1G]")
@frames_options
@click.option("--crashkernel", type=SIZE, metavar="SIZE", help="Reserved at its boot.")
@click.option(
    "--from", "captured", type=PATH, metavar="CAPTURED",
    help="The memory map of a captured machine.",
)  # fmt: skip
@output_options
def create(
    folder: Path,
    memory: int | None,
    captured: Path | None,
    as_json: bool,
    verbose: int,
    **options: Any,
) -> None:
    """Make a simulated machine in DIR, a folder of its own."""
    from pykexec.backends.simulated import SimulatedBackend
    from pykexec.errors import UsageError

    if captured and memory:
        raise UsageError("--memory would be ignored: --from has the memory map")
    SimulatedBackend.create(
        folder,
        memory or 1 << 30,
        from_machine=facts_of(captured) if captured else None,
        **options,
    )
    show_machine(folder, as_json, verbose, "the machine is made")


def facts_of(captured: Path) -> Any:
    """The machine that a file or folder of /proc and /sys describes."""
    from pykexec.host.capture import open_root
    from pykexec.host.facts import read_machine

    return read_machine(open_root(captured))


def show_machine(folder: Path, as_json: bool, verbose: int, done: str = "") -> None:
    from pykexec.backends.simulated import SimulatedBackend
    from pykexec.cli.output import Output
    from pykexec.cli.reports import MachineReport

    shown = SimulatedBackend.open(folder).show()
    Output(as_json, verbose).show("machine", MachineReport(str(folder), shown), done)


@command.command("show", cls=Verb, short_help="Whose each frame of it is.")
@click.argument("folder", type=PATH, metavar="DIR")
@output_options
def show(folder: Path, as_json: bool, verbose: int) -> None:
    """Say whose each frame of the simulated machine in DIR is; with -v run by run."""
    show_machine(folder, as_json, verbose)


@command.command("crash", cls=Verb, short_help="Panic: the crash image takes over.")
@click.argument("folder", type=PATH, metavar="DIR")
@output_options
def crash(folder: Path, as_json: bool, verbose: int) -> None:
    """Let the simulated machine in DIR panic. Its dump is DIR/vmcore afterwards."""
    from pykexec.backends.simulated import SimulatedBackend
    from pykexec.cli.output import Output
    from pykexec.cli.reports import StartedReport, Target

    switched = SimulatedBackend.open(folder).crash()
    report = StartedReport(Target("simulated", f"machine {folder}"), "crash", switched)
    Output(as_json, verbose).show("started", report, "the machine crashed")


@command.command("capture", cls=Verb, short_help="The facts of this machine, in a file.")
@click.argument("file", type=PATH, metavar="FILE")
@click.option("--root", type=PATH, metavar="PATH", help="Of this folder instead of /.")
@output_options
def capture(file: Path, root: Path | None, as_json: bool, verbose: int) -> None:
    """Write the facts of this machine to FILE, a new one, for --root elsewhere."""
    from pykexec.cli.output import Output
    from pykexec.cli.reports import CapturedReport
    from pykexec.host.capture import capture as read_all
    from pykexec.host.capture import open_root, write_capture
    from pykexec.host.root import THIS_MACHINE
    from pykexec.machine import Unknown

    captured = read_all(open_root(root) if root else THIS_MACHINE)
    write_capture(captured, file)
    unreadable = tuple(
        found.why for _, found in sorted(captured.files.items()) if isinstance(found, Unknown)
    )
    counts = len(captured.files) - len(unreadable), len(captured.folders)
    report = CapturedReport(str(file), *counts, unreadable)
    Output(as_json, verbose).show("captured", report, f"{file} is written")
