"""pykexec setup."""

from __future__ import annotations

from typing import Any

import click

from pykexec.cli import run
from pykexec.cli.verbs.params import PATH, Verb, output_options


@click.command(cls=Verb, short_help="Set this machine up to save crash dumps, or undo that.")
@click.option("--check", is_flag=True, help="Only show what would change.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--undo", is_flag=True, help="Undo everything that setup has changed.")
@click.option(
    "--panic-sysctls",
    "sysctls",
    is_flag=True,
    help="Also make oopses (on x86 also unknown NMIs) panic, and the machine reboot after a panic.",
)
@click.option(
    "--root",
    type=PATH,
    metavar="DIR",
    help="With --check, examine the system in DIR, with the proc and sys in it.",
)
@output_options
def command(**options: Any) -> int:
    """Set this machine up to save a crash dump after a panic.

    Show every change, ask for confirmation, and make the changes: reserve a crash region if
    needed, make the initrd of the capture kernel, write /etc/pykexec.conf, enable the systemd
    units, and mask the kdump services of other packages. A journal records each change before it
    is made: after an interruption, run setup again to complete it, or --undo to restore every
    file.

    With --check, the exit status is 3 if something would change, and 0 if not.
    """
    return run.setup.run(**options)
