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

    Services are not stopped, and file systems are not unmounted; to shut down first, use
    systemctl kexec. On the real kernel everything is checked first, and nothing is started if it
    is unknown whether an image is loaded. If the image is one that a panic starts, the kernel
    is made to panic.
    """
    run.execute.run(**options)
