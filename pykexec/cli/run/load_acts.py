"""What `load` does besides planning: the load itself, and the crash region that it may need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.backends.kernel.region import with_expected_region, with_region
from pykexec.cli.report.load import LoadReport
from pykexec.cli.run import real
from pykexec.flows import load as flow

if TYPE_CHECKING:
    from pathlib import Path

    from pykexec.backends.backend import Backend
    from pykexec.cli.output import Output
    from pykexec.cli.report.target import Target
    from pykexec.cli.run.load_wishes import LoadWishes
    from pykexec.machine import Machine
    from pykexec.placement.syscall_choice import SyscallChoice


def load(
    kernel: Path,
    asked: LoadWishes,
    backend: Backend,
    machine: Machine,
    where: Target,
    choice: SyscallChoice | None,
    output: Output,
) -> LoadReport:
    """Load with kexec_load(2), after making a crash region if one is needed."""

    def run() -> flow.LoadedPlan:
        return flow.load(kernel, backend, asked.request, asked.given.image_type)

    if asked.given.may_make_region:
        done = with_region(real.as_kernel(backend), machine, asked.without_initrd.mode, run)
        if not machine.crash_kernel:
            machine = _made_region(backend.machine(), output)
    else:
        done = run()
    return LoadReport(where, done.planned, machine, done, done.granted, choice)


def _made_region(machine: Machine, output: Output) -> Machine:
    """The machine after a load that found no region; prints a note if it has one now."""
    if machine.crash_kernel:
        size = machine.crash_kernel.size >> 10
        output.note(f"made a crash region of {size} KiB; use pykexec region release to release it")
    return machine


def expected_region(asked: LoadWishes, machine: Machine, output: Output) -> Machine:
    """The machine with the region that the load would make."""
    found = with_expected_region(machine, asked.without_initrd.mode)
    if found is not machine:
        output.note("the load would make a crash region first; its address is a guess")
    return found
