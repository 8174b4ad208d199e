"""pykexec load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pykexec.cli import run
from pykexec.cli.verbs.params import (
    ADDR,
    PATH,
    SIZE,
    Verb,
    choice,
    output_options,
    profile_option,
    target_options,
)


@click.command(cls=Verb, short_help="Plan, check and load a kernel.")
@click.argument("kernel", type=PATH)
@click.option(
    "--initrd",
    "initrds",
    multiple=True,
    type=PATH,
    metavar="FILE",
    help="Load FILE as the initrd. Repeatable; the files are concatenated.",
)
@click.option(
    "--module",
    "modules",
    multiple=True,
    metavar='"FILE ARGS"',
    help="Pass a file and its arguments to a multiboot image. Repeatable.",
)
@click.option(
    "--dtb",
    type=PATH,
    metavar="FILE",
    help="Pass FILE as the device tree (arm64).  [default: that of the running kernel]",
)
@click.option(
    "--append", multiple=True, metavar="TEXT", help="Add TEXT to the command line. Repeatable."
)
@click.option(
    "--reuse-cmdline", is_flag=True, help="Start with the command line of the running kernel."
)
@click.option(
    "--cmdline-remove",
    multiple=True,
    metavar="KEY",
    help="Drop KEY from the reused command line. Repeatable.",
)
@click.option("--mem-min", type=ADDR, metavar="ADDR", help="Place nothing below ADDR.")
@click.option("--mem-max", type=ADDR, metavar="ADDR", help="Place nothing above ADDR (inclusive).")
@click.option("--crash", is_flag=True, help="Load a capture kernel into the crash region.")
@click.option(
    "--crash-by-normal", is_flag=True, help="Load a capture kernel without memory reserved for it."
)
@click.option(
    "--crash-size",
    type=SIZE,
    metavar="SIZE",
    help="Give the capture kernel SIZE of memory, instead of an estimate.",
)
@click.option(
    "--mode",
    type=choice("lent", "in-place", "stub-swap", "kernel-swap", "flag"),
    help="Choose how a crash by normal moves the pages.",
)
@click.option(
    "--keep",
    type=choice("all", "kernel"),
    help="Choose which memory a crash by normal must keep for the dump.  [default: all]",
)
@click.option(
    "--replace",
    "replaces",
    is_flag=True,
    help="Replace an armed crash by normal, which stays armed until this one is ready.",
)
@click.option(
    "--settle",
    type=click.IntRange(0, 600),
    metavar="SECONDS",
    help="After a panic, let the stub wait SECONDS before it moves any page.",
)
@click.option(
    "--region",
    type=choice("auto", "never"),
    help="Make a crash region for a crash by normal if there is none, or never make one.  "
    "[default: auto]",
)
@click.option(
    "--hotplug", is_flag=True, help="With --crash, let the kernel follow memory and CPU hotplug."
)
@click.option("--type", "image_type", metavar="TYPE", help="Treat the file as an image of TYPE.")
@profile_option
@click.option("--entry", type=ADDR, metavar="ADDR", help="Start at ADDR instead of the purgatory.")
@click.option(
    "--no-initrd-check",
    is_flag=True,
    help="Only warn if the initrd of a crash load cannot work.",
)
@click.option("--no-checks", is_flag=True, help="Skip digest verification in purgatory.")
@click.option(
    "--syscall",
    type=choice("auto", "load", "file"),
    default="auto",
    show_default=True,
    help="Use kexec_load(2) or kexec_file_load(2).",
)
@target_options
@click.option(
    "--root",
    type=PATH,
    metavar="PATH",
    help="With --dry-run, plan for a captured machine (file or folder).",
)
@click.option(
    "--dry-run", is_flag=True, help="Plan and check only. Needs no privilege and changes nothing."
)
@output_options
def command(kernel: Path, **options: Any) -> None:
    """Load KERNEL, after deciding where everything goes and checking the plan.

    By default the image is a normal one, which pykexec exec or systemctl kexec starts. With
    --crash or --crash-by-normal it is a capture kernel, which a panic starts to save a dump.
    Addresses (ADDR) and sizes (SIZE) are bytes, in decimal or 0x hexadecimal, with an optional
    suffix K, M or G (powers of 1024).
    """
    run.load.run(kernel, options)
