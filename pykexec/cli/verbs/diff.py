"""pykexec diff."""

from __future__ import annotations

from pathlib import Path

import click

from pykexec.cli.verbs.params import PATH, Verb, output_options


@click.command(cls=Verb, short_help="Compare two plans.")
@click.argument("a", type=PATH, metavar="A.json")
@click.argument("b", type=PATH, metavar="B.json")
@output_options
@click.pass_context
def command(ctx: click.Context, /, a: Path, b: Path, as_json: bool, verbose: int) -> None:
    """Compare the fields, segments and checks of two plans (load --json).

    The exit status is 3 if they differ.
    """
    from pykexec.cli.output import Output
    from pykexec.cli.report.diff import DiffReport
    from pykexec.errors import CheckFailed
    from pykexec.flows.diff import diff

    found = diff(a, b)
    Output(as_json, verbose).show(DiffReport(found))
    if not found.same:
        ctx.exit(CheckFailed.exit_status)
