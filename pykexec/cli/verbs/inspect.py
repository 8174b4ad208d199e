"""pykexec inspect."""

from __future__ import annotations

from typing import Any

import click

from pykexec.cli import run
from pykexec.cli.verbs.params import PATH, Verb, choice, output_options, profile_option


@click.command(cls=Verb, short_help="Show what a file is and what it needs.")
@click.argument("file", type=PATH)
@click.option("--type", "image_type", metavar="TYPE", help="Treat the file as an image of TYPE.")
@profile_option
@click.option(
    "--extract",
    nargs=2,
    type=(choice("vmlinux"), PATH),
    metavar="vmlinux OUT",
    help="Write the kernel that a bzImage contains to the new file OUT.",
)
@output_options
def command(**options: Any) -> None:
    """Show what FILE is and what it needs.

    FILE is a kernel image, an initrd, a zero page (boot_params), ELF core headers, or a dump.
    """
    run.inspect.run(**options)
