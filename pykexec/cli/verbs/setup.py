"""pykexec setup."""

from __future__ import annotations

from typing import Any

import click

from pykexec.cli import run
from pykexec.cli.verbs.params import PATH, Verb, output_options


@click.command(cls=Verb, short_help="Set this machine up to be armed at boot, or undo that.")
@click.option("--check", is_flag=True, help="Only show what would change.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--undo", is_flag=True, help="Take everything back that setup has changed.")
@click.option(
    "--panic-sysctls",
    "sysctls",
    is_flag=True,
    help="Also make oopses and unknown NMIs panic, and the machine reboot after a panic.",
)
@click.option(
    "--root",
    type=PATH,
    metavar="DIR",
    help="With --check: examine the system in DIR, with its /proc and /sys.",
)
@output_options
def command(**options: Any) -> int:
    """Show what has to change for this machine to save a dump after a panic, ask, and do it.

    The steps are a crash region, the initrd of the capture kernel, /etc/pykexec.conf, units, and
    other packages' kdump services, which are masked. A journal records each change before it is
    made: a second run completes what was interrupted, and --undo restores every file.

    With --check, the exit status is 3 if something would change, and 0 if not.
    """
    return run.setup.run(**options)
