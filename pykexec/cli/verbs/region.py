"""pykexec region."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pykexec.cli.verbs.params import PATH, SIZE, Verb, output_options, target_options

if TYPE_CHECKING:
    from pykexec.backends.backend import Backend
    from pykexec.backends.region import CrashRegion


@click.group()
def command() -> None:
    """Make, show and release a crash region at run time."""


@command.command("make", cls=Verb, short_help="Make a crash region without a reboot.")
@click.argument("size", type=SIZE, required=False)
@click.option(
    "--module",
    "file",
    type=PATH,
    metavar="FILE",
    help="Kernel module to insert, instead of the installed one.",
)
@click.option("--force", is_flag=True, help="Allow kernels with which the module was not tested.")
@target_options
@output_options
def make(
    size: int | None,
    file: Path | None,
    force: bool,
    backend: str,
    machine_dir: Path | None,
    as_json: bool,
    verbose: int,
) -> None:
    """Make a crash region of SIZE, as crashkernel=SIZE would at the next boot.

    By default the region is as large as a crash by normal needs on this machine. The kernel
    module pykexec_region makes it; load --crash and kexec-tools can use the region too.
    """
    from pykexec.backends.simulated import SimulatedBackend
    from pykexec.cli.output import Output
    from pykexec.cli.report.region import RegionReport
    from pykexec.cli.verbs import target
    from pykexec.errors import UsageError

    if backend == "simulated" and (file or force):
        raise UsageError(
            "--module and --force would be ignored: they are for the real kernel",
            hint="--backend kernel",
        )
    output = Output(as_json, verbose)
    where, acting = target.chosen(backend, machine_dir, output)
    with acting.session():
        if isinstance(acting, SimulatedBackend):
            made = acting.make_region(size)
        else:
            from pykexec.backends.kernel.region import make as make_region

            made = make_region(target.as_kernel(acting), size, file, force)
    output.show(RegionReport(where, made, "made"))


@command.command("show", cls=Verb, short_help="Show the crash region.")
@target_options
@output_options
def show(backend: str, machine_dir: Path | None, as_json: bool, verbose: int) -> None:
    """Show the crash region, how it was made, and what a crash by normal needs.

    The exit status is 3 if there is none.
    """
    from pykexec.cli.output import Output
    from pykexec.cli.report.region import RegionReport
    from pykexec.cli.verbs import target
    from pykexec.errors import CheckFailed

    output = Output(as_json, verbose)
    where, acting = target.chosen(backend, machine_dir, output)
    found = look(acting)
    output.show(RegionReport(where, found))
    if found.origin is None:
        raise click.exceptions.Exit(CheckFailed.exit_status)


def look(acting: Backend) -> CrashRegion:
    """The simulated kernel needs no module."""
    from pykexec.backends.region import present
    from pykexec.backends.simulated import SimulatedBackend

    if isinstance(acting, SimulatedBackend):
        return present(acting.machine())
    from pykexec.backends.kernel.region import show as found

    return found(acting.machine())


@command.command("release", cls=Verb, short_help="Release a crash region made at run time.")
@target_options
@output_options
def release(backend: str, machine_dir: Path | None, as_json: bool, verbose: int) -> None:
    """Release a crash region that was made at run time, and give its memory back.

    A loaded crash image has to be unloaded first.
    """
    from pykexec.backends.simulated import SimulatedBackend
    from pykexec.cli.output import Output
    from pykexec.cli.report.region import RegionReport
    from pykexec.cli.verbs import target

    output = Output(as_json, verbose)
    where, acting = target.chosen(backend, machine_dir, output)
    with acting.session():
        if isinstance(acting, SimulatedBackend):
            released = acting.release_region()
        else:
            from pykexec.backends.kernel.region import release as release_region

            released = release_region(target.as_kernel(acting))
    output.show(RegionReport(where, released, "released"))


@command.command("build", cls=Verb, short_help="Build the kernel module.")
@click.option(
    "--source",
    type=PATH,
    metavar="DIR",
    help="Folder of the module's source, instead of the one that came with pykexec.",
)
@click.option(
    "--headers",
    type=PATH,
    metavar="DIR",
    help="Build against these kernel headers; needs --output.",
)
@click.option(
    "--output",
    "target_file",
    type=PATH,
    metavar="FILE",
    help="Write the module to FILE, instead of installing it for the running kernel.",
)
@output_options
def build(
    source: Path | None,
    headers: Path | None,
    target_file: Path | None,
    as_json: bool,
    verbose: int,
) -> None:
    """Build the kernel module for the running kernel, and install it.

    Needs make, the compiler of the kernel and its headers (Debian: linux-headers-$(uname -r)).
    """
    from pykexec.cli.output import Output
    from pykexec.cli.report.region import BuiltReport
    from pykexec.errors import UsageError
    from pykexec.host.module_build import build as build_module

    if headers and not target_file:
        raise UsageError(
            "--headers may be of another kernel, for which nothing is installed",
            hint="--output FILE",
        )
    built = build_module(source, headers, target_file)
    Output(as_json, verbose).show(BuiltReport(built))
