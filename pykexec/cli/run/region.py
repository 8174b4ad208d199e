"""What `region make`, `show`, `release` and `build` do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.backends.kernel import region as kernel_region
from pykexec.backends.region import present
from pykexec.backends.simulated import SimulatedBackend
from pykexec.cli.output import Output
from pykexec.cli.report.region import BuiltReport, RegionReport
from pykexec.cli.run import real, target
from pykexec.errors import CheckFailed, UsageError
from pykexec.host import module_build

if TYPE_CHECKING:
    from pathlib import Path

    from pykexec.backends.backend import Backend
    from pykexec.backends.region import CrashRegion


def make(
    size: int | None,
    file: Path | None,
    force: bool,
    backend: str,
    machine_dir: Path | None,
    as_json: bool,
    verbose: int,
) -> None:
    if backend == "simulated" and (file or force):
        raise UsageError(
            "--module and --force would be ignored: they are for the real kernel",
            hint="--backend kernel",
        )
    output = Output(as_json, verbose)
    where, acting = target.chosen(backend, machine_dir, output, make=True)
    with acting.session():
        if isinstance(acting, SimulatedBackend):
            made = acting.make_region(size)
        else:
            made = kernel_region.make(real.as_kernel(acting), size, file, force)
    output.show(RegionReport(where, made, "made"))


def show(backend: str, machine_dir: Path | None, as_json: bool, verbose: int) -> int:
    """Show the region; returns the exit status."""
    output = Output(as_json, verbose)
    where, acting = target.chosen(backend, machine_dir, output)
    found = _look(acting)
    output.show(RegionReport(where, found))
    return CheckFailed.exit_status if found.origin is None else 0


def _look(acting: Backend) -> CrashRegion:
    """The region; the simulated kernel does not need a module."""
    if isinstance(acting, SimulatedBackend):
        return present(acting.machine())
    return kernel_region.show(acting.machine())


def release(backend: str, machine_dir: Path | None, as_json: bool, verbose: int) -> None:
    output = Output(as_json, verbose)
    where, acting = target.chosen(backend, machine_dir, output)
    with acting.session():
        if isinstance(acting, SimulatedBackend):
            released = acting.release_region()
        else:
            released = kernel_region.release(real.as_kernel(acting))
    output.show(RegionReport(where, released, "released"))


def build(
    source: Path | None,
    headers: Path | None,
    target_file: Path | None,
    as_json: bool,
    verbose: int,
) -> None:
    if headers and not target_file:
        raise UsageError(
            "--headers requires --output: a module for other headers is not installed",
            hint="use --output FILE",
        )
    built = module_build.build(source, headers, target_file)
    Output(as_json, verbose).show(BuiltReport(built))
