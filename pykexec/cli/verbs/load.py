"""pykexec load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pykexec.cli.verbs.params import (
    ADDR,
    PATH,
    SIZE,
    Verb,
    output_options,
    profile_option,
    target_options,
)


@click.command(cls=Verb, short_help="Identify, plan, check and load a kernel.")
@click.argument("kernel", type=PATH)
@click.option(
    "--initrd",
    "initrds",
    multiple=True,
    type=PATH,
    metavar="FILE",
    help="An initrd; several are joined in their order.",
)
@click.option(
    "--module",
    "modules",
    multiple=True,
    metavar='"FILE ARGS"',
    help="A file for a multiboot image, and its string; repeatable.",
)
@click.option(
    "--append", multiple=True, metavar="TEXT", help="Words for the command line; may be repeated."
)
@click.option("--reuse-cmdline", is_flag=True, help="Start from the running kernel's command line.")
@click.option(
    "--cmdline-remove", multiple=True, metavar="KEY", help="Leave this key of it out; repeatable."
)
@click.option("--mem-min", type=ADDR, metavar="ADDR", help="Lowest address to use.")
@click.option("--mem-max", type=ADDR, metavar="ADDR", help="Highest address to use, inclusive.")
@click.option("--crash", is_flag=True, help="A crash kernel, into the reserved region.")
@click.option("--crash-by-normal", is_flag=True, help="A crash kernel, without a reserved region.")
@click.option(
    "--crash-size", type=SIZE, metavar="SIZE", help="Memory of the capture kernel; else estimated."
)
@click.option(
    "--mode",
    type=click.Choice(["panic", "in-place", "stub-swap", "kernel-swap", "flag"]),
    help="How a crash by normal moves the pages; panic: any way that a panic starts.",
)
@click.option(
    "--replace",
    "replaces",
    is_flag=True,
    help="Replace an armed crash by normal, which stays armed until this one is ready.",
)
@click.option(
    "--region",
    type=click.Choice(["auto", "never"]),
    help="Whether a crash by normal makes a crash region where there is none.  [default: auto]",
)
@click.option("--hotplug", is_flag=True, help="With --crash: follow memory and CPU hotplug.")
@click.option("--type", "image_type", metavar="TYPE", help="Take the file as this image type.")
@profile_option
@click.option("--entry", type=ADDR, metavar="ADDR", help="Start here and not at the purgatory.")
@click.option(
    "--no-initrd-check", is_flag=True, help="Only warn where a crash load's initrd cannot work."
)
@click.option("--no-checks", is_flag=True, help="The purgatory compares no digests.")
@click.option(
    "--syscall",
    type=click.Choice(["auto", "load", "file"]),
    default="auto",
    show_default=True,
    help="kexec_load(2) or kexec_file_load(2).",
)
@target_options
@click.option(
    "--root",
    type=PATH,
    metavar="PATH",
    help="With --dry-run: the machine of a captured /proc and /sys, a folder or a file.",
)
@click.option("--dry-run", is_flag=True, help="Stop after the checks: no privilege, no effect.")
@output_options
def command(kernel: Path, **options: Any) -> None:
    """Identify KERNEL, decide where everything goes, check it, and load it.

    Addresses and sizes are decimal or 0x hex, with K, M or G behind them if you like.
    """
    from pykexec.cli.verbs.load_options import LoadOptions

    given = LoadOptions(**options)
    given.check()
    given.open_files()
    from pykexec.cli.output import Output
    from pykexec.cli.verbs import load_steps

    output = Output(given.as_json, given.verbose)
    step = load_steps.dry_run if given.dry_run else load_steps.load
    report = step(kernel, given, output)
    output.warn(report.warnings)
    for note in report.notes if given.verbose else ():
        output.note(note)
    output.show(report.kind, report, report.effect)
