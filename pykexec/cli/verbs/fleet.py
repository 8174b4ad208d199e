"""pykexec fleet."""

from __future__ import annotations

from typing import Any

import click

from pykexec.cli import run
from pykexec.cli.program import Group
from pykexec.cli.verbs.params import PATH, Verb, choice, output_options


@click.group(cls=Group)
def command() -> None:
    """Plan for many machines, from facts that were captured on them."""


@command.command("plan", cls=Verb, short_help="Plan a crash dump for each of many machines.")
@click.argument("machines", nargs=-1, required=True, metavar="MACHINE...")
@click.option("--kernel", type=PATH, required=True, metavar="FILE", help="Plan with kernel FILE.")
@click.option(
    "--initrd",
    "initrds",
    multiple=True,
    type=PATH,
    metavar="FILE",
    help="Plan with FILE as the initrd. Repeatable.",
)
@click.option(
    "--append", multiple=True, metavar="TEXT", help="Add TEXT to the command line. Repeatable."
)
@click.option(
    "--mode",
    type=choice("lent", "in-place", "stub-swap", "kernel-swap"),
    help="Use this mode instead of the best one.",
)
@click.option(
    "--keep",
    type=choice("all", "kernel"),
    default="all",
    show_default=True,
    help="Choose which memory a crash by normal must keep for the dump.",
)
@click.option(
    "--compare",
    type=PATH,
    metavar="FILE",
    help="Plan with the kernel FILE too, and show only the machines whose plans differ.",
)
@output_options
def plan(**options: Any) -> None:
    """Plan a crash by normal for each MACHINE, and show how it would be armed, or why it cannot be.

    MACHINE is a file written by machine capture, a folder that contains /proc and /sys, a folder of
    both, a pattern in quotes, or - for a list of names on standard input. Nothing is loaded. The
    exit status is 3 if a machine cannot be armed with one of the kernels. With --json, each row and
    the summary is a line of its own.
    """
    run.fleet.plan(**options)
