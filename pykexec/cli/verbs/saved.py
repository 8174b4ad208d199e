"""pykexec saved: the dumps that capture kernels have saved."""

from __future__ import annotations

from typing import Any

import click

from pykexec.cli import run
from pykexec.cli.verbs.params import PATH, Verb, config_option, output_options


@click.command(cls=Verb)
@click.option(
    "--announce",
    is_flag=True,
    help="Show only new dumps, notify logged-in users, and run SAVE_HOOK.",
)
@click.option(
    "--textfile",
    type=PATH,
    metavar="FILE",
    help="Also replace FILE with OpenMetrics text for Prometheus.",
)
@config_option
@output_options
def command(**options: Any) -> int:
    """Show the dumps that capture kernels have saved, oldest first.

    The exit status is 3 if a dump was lost: the last boot ended without a shutdown while a
    crash dump was armed, and no dump was saved.
    """
    return run.saved.run(**options)
