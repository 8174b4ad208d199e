"""pykexec doctor."""

from __future__ import annotations

from typing import Any

import click

from pykexec.cli import run
from pykexec.cli.verbs.params import PATH, Verb, output_options


@click.command(cls=Verb, short_help="Check whether this machine is ready, and show how to fix it.")
@click.option(
    "--root",
    type=PATH,
    metavar="PATH",
    help="Examine the captured machine PATH (a file or folder).",
)
@output_options
def command(**options: Any) -> int:
    """Check every precondition of a load; show what was read, and how to fix what is missing.

    The exit status is 3 if a load would fail.
    """
    return run.doctor.run(**options)
