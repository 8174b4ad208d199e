"""pykexec explain."""

from __future__ import annotations

from typing import Any

import click

from pykexec.cli import run
from pykexec.cli.verbs.params import PATH, Verb, output_options


@click.command(cls=Verb, short_help="Explain an errno of the kernel or an error code.")
@click.argument("word", metavar="ERRNO-or-CODE")
@click.option(
    "--plan",
    type=PATH,
    metavar="FILE",
    help="Show which rule the plan in FILE (from load --json) would break.",
)
@output_options
def command(**options: Any) -> None:
    """List the checks of the kernel that fail with an errno, in their order, or explain an error
    code of pykexec.

    Give the errno as a name (EPERM) or a number; error codes are in the JSON of an error.
    """
    run.explain.run(**options)
