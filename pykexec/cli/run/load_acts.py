"""What `load` does besides planning: the load itself, and what it would find out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.backends.kernel.region import with_region
from pykexec.cli.report.load import LoadReport
from pykexec.cli.run import real
from pykexec.flows import load as flow
from pykexec.flows.expected import expected_load, prospect
from pykexec.images.identify import identify
from pykexec.placement.implied import with_implied
from pykexec.placement.initrd import check_initrd

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


def expected(
    kernel: Path, asked: LoadWishes, machine: Machine, where: Target, output: Output
) -> LoadReport:
    """The load of a crash by normal into the real kernel, for a dry run."""
    given = asked.given
    before = prospect(
        machine,
        asked.without_initrd,
        region=given.may_make_region,
        syscall=asked.chosen_syscall,
        image_type=given.image_type,
    )
    if before.makes_region:
        output.note("the load would make a crash region first; its address is a guess")
    image = identify(kernel, given.image_type, given.profile)
    request = with_implied(image, asked.request)
    found = expected_load(image, before, request, check_initrd(image, request))
    return LoadReport(
        where, found.planned, before.machine, granted=found.granted, syscall=before.syscall
    )
