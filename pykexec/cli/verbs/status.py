"""pykexec status."""

from __future__ import annotations

from typing import Any

import click

from pykexec.cli import run
from pykexec.cli.verbs.params import PATH, Verb, output_options, target_options

DEFAULT = click.core.ParameterSource.DEFAULT


@click.command(cls=Verb, short_help="Show what is loaded.")
@target_options
@click.option("--metrics", is_flag=True, help="Print OpenMetrics text for Prometheus.")
@click.option(
    "--textfile",
    type=PATH,
    metavar="FILE",
    help="Also replace FILE with the OpenMetrics text.",
)
@click.option("--nagios", is_flag=True, help="Print one line, and exit, as a Nagios plugin does.")
@output_options
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> int:
    """Show the normal image, the crash image, and the memory that pykexec holds for them.

    For a crash by normal, verify the digests and addresses of the image in huge pages, that the
    kernel still holds the image that starts it, and that memory and processors are the same as at
    the load. The exit status is 3 if nothing is loaded or this is unknown, if a verification
    fails, or if another program has replaced the image. Without privilege, only what the kernel
    shows to everyone is reported.

    Without --backend and --machine, show the real kernel and, if there is one, the simulated
    machine that load uses by default.
    """
    both = ctx.get_parameter_source("backend") is DEFAULT
    return run.status.run(both, **options)
