"""pykexec machine: simulated machines in folders, and the facts of this one in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pykexec.cli.verbs.params import PATH, SIZE, Verb, frames_options, output_options


@click.group()
def command() -> None:
    """Manage simulated machines, and capture the facts of this one."""


@command.command("create", cls=Verb, short_help="Create a simulated machine.")
@click.argument("folder", type=PATH, metavar="DIR")
@click.option("--memory", type=SIZE, metavar="SIZE", help="RAM of the machine.  [default: 1G]")
@frames_options
@click.option(
    "--crashkernel", type=SIZE, metavar="SIZE", help="Size of the crash region reserved at boot."
)
@click.option(
    "--from", "captured", type=PATH, metavar="CAPTURED",
    help="Use the memory map of the captured machine CAPTURED.",
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
    """Create a simulated machine in the new folder DIR."""
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
    from pykexec.cli.report.machine import MachineReport

    shown = SimulatedBackend.open(folder).show()
    Output(as_json, verbose).show(MachineReport(str(folder), shown), done)


@command.command("show", cls=Verb, short_help="Show the owner of every frame.")
@click.argument("folder", type=PATH, metavar="DIR")
@output_options
def show(folder: Path, as_json: bool, verbose: int) -> None:
    """Show the owner of every frame of the simulated machine in DIR; with -v, list the runs."""
    show_machine(folder, as_json, verbose)


@command.command("crash", cls=Verb, short_help="Make a simulated machine panic.")
@click.argument("folder", type=PATH, metavar="DIR")
@output_options
def crash(folder: Path, as_json: bool, verbose: int) -> None:
    """Make the simulated machine in DIR panic. Its dump is then in DIR/vmcore."""
    from pykexec.backends.simulated import SimulatedBackend
    from pykexec.cli.output import Output
    from pykexec.cli.report.started import StartedReport
    from pykexec.cli.report.target import Target

    switched = SimulatedBackend.open(folder).crash()
    report = StartedReport(Target("simulated", f"machine {folder}"), "crash", switched)
    Output(as_json, verbose).show(report, "the machine crashed")


@command.command("capture", cls=Verb, short_help="Write the facts of this machine to a file.")
@click.argument("file", type=PATH, metavar="FILE")
@click.option(
    "--root",
    type=PATH,
    metavar="PATH",
    help="Read the /proc and /sys of this folder instead of the running machine's.",
)
@output_options
def capture(file: Path, root: Path | None, as_json: bool, verbose: int) -> None:
    """Write the facts of this machine to the new file FILE, for --root on another machine."""
    from pykexec.cli.output import Output
    from pykexec.cli.report.captured import CapturedReport
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
    Output(as_json, verbose).show(report, f"{file} is written")
