"""pykexec unload."""

from __future__ import annotations

from typing import Any

import click

from pykexec.cli import run
from pykexec.cli.verbs.params import Verb, output_options, target_options


@click.command(cls=Verb, short_help="Unload an image and free its memory.")
@click.option("--crash", is_flag=True, help="Unload the crash image instead of the normal one.")
@target_options
@output_options
def command(**options: Any) -> None:
    """Unload the image, and free every page that was allocated for it."""
    run.unload.run(**options)
