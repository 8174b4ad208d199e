"""pykexec exec."""

from __future__ import annotations

from typing import Any

import click

from pykexec.cli import run
from pykexec.cli.verbs.params import Verb, output_options, target_options


@click.command(cls=Verb, short_help="Start the loaded image.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@target_options
@output_options
def command(**options: Any) -> None:
    """Start the loaded image immediately.

    On the real kernel everything is checked first, and nothing happens if it is unknown
    whether an image is loaded. The network is not shut down. An image that a panic starts
    is started by causing that panic. To stop services first, use `systemctl kexec`.
    """
    run.execute.run(**options)
