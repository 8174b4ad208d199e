"""pykexec rehearse."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from pykexec.cli.verbs.params import (
    ADDR,
    PATH,
    SIZE,
    Verb,
    frames_options,
    output_options,
    profile_option,
)

ONLY_WITH = {
    "mode": "qemu",
    "seed": "simulated",
    "allocator": "simulated",
    "relocate": "simulated",
}
"""Options that one engine has no use for."""
QUIET = 1.0
"""Seconds in which nobody needs to be told anything."""


class Steps:
    """Progress, a line a step, once it has taken a while; for a terminal."""

    def __init__(self) -> None:
        self.start = time.monotonic()

    def step(self, text: str) -> None:
        if time.monotonic() - self.start >= QUIET:
            click.echo(f"pykexec: {text}", err=True)


@click.command(
    cls=Verb, short_help="Try a crash dump from load to verification, on another machine."
)
@click.argument("kernel", type=PATH)
@click.option(
    "--initrd",
    "initrds",
    multiple=True,
    type=PATH,
    metavar="FILE",
    help="As for load; with qemu, its /init is replaced.",
)
@click.option("--append", multiple=True, metavar="TEXT", help="As for load.")
@click.option("--mem-min", type=ADDR, metavar="ADDR", help="Place nothing below ADDR.")
@click.option("--mem-max", type=ADDR, metavar="ADDR", help="Place nothing above ADDR (inclusive).")
@click.option(
    "--crash-size", type=SIZE, metavar="SIZE", help="Give the capture kernel SIZE of memory."
)
@click.option(
    "--mode",
    type=click.Choice(["in-place", "stub-swap"]),
    help="With qemu, use this mode instead of the best one.",
)
@click.option("--no-initrd-check", is_flag=True, help="As for load.")
@click.option("--type", "image_type", metavar="TYPE", help="Treat the file as an image of TYPE.")
@profile_option
@click.option(
    "--engine",
    type=click.Choice(["simulated", "qemu"]),
    default="simulated",
    show_default=True,
    help="Use the simulated kernel (seconds) or boot KERNEL in QEMU (a minute or two).",
)
@click.option(
    "--memory",
    type=SIZE,
    default=1 << 30,
    metavar="SIZE",
    help="RAM of the machine.  [default: 1G]",
)
@frames_options
@output_options
@click.pass_context
def command(ctx: click.Context, /, kernel: Path, **options: Any) -> None:
    """Rehearse a crash by normal of KERNEL from end to end, on a machine made for it.

    Every frame in use is filled with a page that contains its own address. After the panic,
    each must be in the dump at that address, exactly once; otherwise the exit status is 3.
    --engine qemu reserves 64 KiB and needs qemu-system-x86_64, but neither KVM nor root.
    """
    from pykexec.cli.output import Output
    from pykexec.cli.report.rehearsal import RehearsalReport
    from pykexec.errors import CheckFailed
    from pykexec.flows.rehearse.simulated import NoProgress, Stage, rehearse
    from pykexec.images.contents import joined_initrd
    from pykexec.placement.request import LoadRequest, Mode

    check_engine(ctx, options["engine"])
    request = LoadRequest(
        initrd=joined_initrd(options["initrds"]),
        append=options["append"],
        mem_min=options["mem_min"],
        mem_max=options["mem_max"],
        crash_size=options["crash_size"],
        profile=options["profile"],
        mode=Mode(options["mode"]) if options["mode"] else None,
        initrd_check=not options["no_initrd_check"],
    )
    output = Output(options["as_json"], options["verbose"])
    progress = Steps() if sys.stderr.isatty() and not output.as_json else NoProgress()
    memory, used, image_type = options["memory"], options["used"], options["image_type"]
    if options["engine"] == "qemu":
        from pykexec.flows.rehearse.qemu import QemuStage, rehearse_in_qemu

        report = rehearse_in_qemu(kernel, request, image_type, QemuStage(memory, used), progress)
    else:
        stage = Stage(memory, used, *(options[key] for key in ("allocator", "relocate", "seed")))
        report = rehearse(kernel, request, image_type, stage, progress)
    output.warn(report.load.warnings)
    output.show(RehearsalReport(report))
    if not report.good:
        ctx.exit(CheckFailed.exit_status)


def check_engine(ctx: click.Context, engine: str) -> None:
    """An option that would have no effect is refused (UsageError)."""
    from pykexec.errors import UsageError

    for name, only in ONLY_WITH.items():
        given = ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
        if given and only != engine:
            raise UsageError(f"--{name} is for --engine {only}", hint="pykexec rehearse --help")
