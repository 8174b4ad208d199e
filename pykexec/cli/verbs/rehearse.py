"""pykexec rehearse."""

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
    frames_options,
    output_options,
    profile_option,
)

DEFAULT = click.core.ParameterSource.DEFAULT


@click.command(
    cls=Verb, short_help="Try a crash dump from end to end, without touching this machine."
)
@click.argument("kernel", type=PATH)
@click.option(
    "--initrd",
    "initrds",
    multiple=True,
    type=PATH,
    metavar="FILE",
    help="Load FILE as the initrd. Repeatable. With --engine qemu, its /init is replaced.",
)
@click.option(
    "--append", multiple=True, metavar="TEXT", help="Add TEXT to the command line. Repeatable."
)
@click.option("--mem-min", type=ADDR, metavar="ADDR", help="Place nothing below ADDR.")
@click.option("--mem-max", type=ADDR, metavar="ADDR", help="Place nothing above ADDR (inclusive).")
@click.option(
    "--crash-size", type=SIZE, metavar="SIZE", help="Give the capture kernel SIZE of memory."
)
@click.option(
    "--mode",
    type=choice("lent", "in-place", "stub-swap"),
    help="Use this mode instead of the best one; only lent can be simulated.",
)
@click.option(
    "--least",
    is_flag=True,
    help="With --engine qemu, find the smallest --crash-size that works, in at most eight boots.",
)
@click.option(
    "--margin",
    type=SIZE,
    metavar="SIZE",
    help="With --least, add SIZE to the smallest size that works.  [default: 16M]",
)
@click.option("--no-initrd-check", is_flag=True, help="Only warn if the initrd cannot work.")
@click.option("--type", "image_type", metavar="TYPE", help="Treat the file as an image of TYPE.")
@profile_option
@click.option(
    "--engine",
    type=choice("simulated", "qemu"),
    default="simulated",
    show_default=True,
    help="Use the simulated kernel (seconds) or boot KERNEL in QEMU (a minute or two).",
)
@click.option(
    "--guest-root",
    type=PATH,
    metavar="DIR",
    help="With --engine qemu, take the guests' Python from the unpacked system DIR.",
)
@click.option(
    "--memory",
    type=SIZE,
    default=1 << 30,
    metavar="SIZE",
    help="RAM of the simulated or QEMU machine.  [default: 1G]",
)
@frames_options
@output_options
@click.pass_context
def command(ctx: click.Context, /, kernel: Path, **options: Any) -> int:
    """Rehearse a crash by normal of KERNEL from end to end, on a machine made for it.

    This computer is not touched. Every page in use on the other machine is filled with its own
    address. After the panic, each must be in the dump at that address, exactly once; otherwise
    the exit status is 3. --engine qemu boots a bzImage, or an Image of arm64, with
    crashkernel=64K, and needs qemu-system-x86_64 or qemu-system-aarch64, but neither KVM nor
    root.
    """
    given = [name for name in options if ctx.get_parameter_source(name) is not DEFAULT]
    return run.rehearse.run(kernel, given, options)
