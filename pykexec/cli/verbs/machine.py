"""pykexec machine: simulated machines in folders, and the facts of this one in a file."""

from __future__ import annotations

from typing import Any

import click

from pykexec.cli import run
from pykexec.cli.program import Group
from pykexec.cli.verbs.params import PATH, SIZE, Verb, frames_options, output_options


@click.group(cls=Group)
def command() -> None:
    """Manage simulated machines, and capture the facts of this one."""


@command.command("create", cls=Verb, short_help="Create a simulated machine.")
@click.argument("folder", type=PATH, metavar="DIR")
@click.option(
    "--memory", type=SIZE, metavar="SIZE", help="RAM of the simulated machine.  [default: 1G]"
)
@frames_options
@click.option(
    "--crashkernel", type=SIZE, metavar="SIZE", help="Size of the crash region reserved at boot."
)
@click.option(
    "--from", "captured", type=PATH, metavar="CAPTURED",
    help="Use the memory map of the captured machine CAPTURED.",
)  # fmt: skip
@output_options
def create(**options: Any) -> None:
    """Create a simulated machine in the new folder DIR."""
    run.machine.create(**options)


@command.command("show", cls=Verb, short_help="Show who owns the memory of a simulated machine.")
@click.argument("folder", type=PATH, metavar="DIR")
@output_options
def show(**options: Any) -> None:
    """Show who owns the memory of the simulated machine in DIR; with -v, range by range."""
    run.machine.show(**options)


@command.command("crash", cls=Verb, short_help="Make a simulated machine panic.")
@click.argument("folder", type=PATH, metavar="DIR")
@output_options
def crash(**options: Any) -> None:
    """Make the simulated machine in DIR panic. Its dump is then in DIR/vmcore."""
    run.machine.crash(**options)


@command.command("capture", cls=Verb, short_help="Write the facts of this machine to a file.")
@click.argument("file", type=PATH, metavar="FILE")
@click.option(
    "--root",
    type=PATH,
    metavar="PATH",
    help="Read proc and sys in the folder PATH instead of those of the running machine.",
)
@click.option("--redact", is_flag=True, help="Remove secrets, host names and serial numbers.")
@click.option(
    "--redact-key", "redact_keys", multiple=True, metavar="KEY",
    help="Also remove the values of KEY from the command line; implies --redact.",
)  # fmt: skip
@output_options
def capture(**options: Any) -> None:
    """Write the facts of this machine to the new file FILE.

    On another machine, load --dry-run --root FILE, doctor --root FILE and fleet plan can read it.
    """
    run.machine.capture(**options)
