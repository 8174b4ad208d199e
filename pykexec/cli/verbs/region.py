"""pykexec region."""

from __future__ import annotations

from typing import Any

import click

from pykexec.cli import run
from pykexec.cli.program import Group
from pykexec.cli.verbs.params import PATH, SIZE, Verb, output_options, target_options


@click.group(cls=Group)
def command() -> None:
    """Make, show and release a crash region at run time."""


@command.command("make", cls=Verb, short_help="Make a crash region without a reboot.")
@click.argument("size", type=SIZE, required=False)
@click.option(
    "--module",
    "file",
    type=PATH,
    metavar="FILE",
    help="Insert the kernel module FILE instead of the installed one.",
)
@click.option("--force", is_flag=True, help="Allow a kernel with which the module was not tested.")
@target_options
@output_options
def make(**options: Any) -> None:
    """Make a crash region of SIZE, as crashkernel=SIZE would at the next boot.

    By default the region is as large as a crash by normal needs on this machine. The kernel
    module pykexec_region makes it; load --crash and kexec-tools can use the region too.
    """
    run.region.make(**options)


@command.command("show", cls=Verb, short_help="Show the crash region.")
@target_options
@output_options
def show(**options: Any) -> int:
    """Show the crash region, how it was made, and the size that a crash by normal needs.

    The exit status is 3 if there is no region.
    """
    return run.region.show(**options)


@command.command("release", cls=Verb, short_help="Release a crash region made at run time.")
@target_options
@output_options
def release(**options: Any) -> None:
    """Release a crash region that was made at run time, and free its memory.

    Unload a crash image first, with pykexec unload --crash.
    """
    run.region.release(**options)


@command.command(
    "build", cls=Verb, short_help="Build and install the kernel module that makes a region."
)
@click.option(
    "--source",
    type=PATH,
    metavar="DIR",
    help="Build the source in DIR instead of the one installed with pykexec.",
)
@click.option(
    "--headers",
    type=PATH,
    metavar="DIR",
    help="Build against the kernel headers in DIR. Needs --output.",
)
@click.option(
    "--output",
    "target_file",
    type=PATH,
    metavar="FILE",
    help="Write the module to FILE, instead of installing it for the running kernel.",
)
@output_options
def build(**options: Any) -> None:
    """Build the kernel module pykexec_region for the running kernel, and install it.

    This needs make, the kernel's compiler and its headers (Debian: linux-headers-$(uname -r)).
    """
    run.region.build(**options)
