"""pykexec diff."""

from __future__ import annotations

from typing import Any

import click

from pykexec.cli import run
from pykexec.cli.verbs.params import PATH, Verb, output_options


@click.command(cls=Verb, short_help="Compare two plans.")
@click.argument("a", type=PATH, metavar="A.json")
@click.argument("b", type=PATH, metavar="B.json")
@output_options
def command(**options: Any) -> int:
    """Compare the fields, segments and checks of two plans (load --json).

    The exit status is 3 if they differ.
    """
    return run.diff.run(**options)
