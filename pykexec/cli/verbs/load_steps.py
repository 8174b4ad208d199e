"""What `load` does, by its options: a dry run, a load by either system call."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pykexec.cli.output import Output
from pykexec.cli.report.load import LoadReport
from pykexec.cli.report.target import Target
from pykexec.cli.verbs import target
from pykexec.cli.verbs.load_options import LoadOptions

if TYPE_CHECKING:
    from pykexec.cli.report.file_load import FileLoadReport
    from pykexec.flows.load import LoadedPlan
    from pykexec.machine import Machine
    from pykexec.placement.granted import Granted
    from pykexec.placement.request import LoadRequest
    from pykexec.placement.syscall_choice import SyscallChoice


def dry_run(kernel: Path, given: LoadOptions, output: Output) -> LoadReport | FileLoadReport:
    """Decide and check as `load` does, with the facts of the machine that is meant."""
    from pykexec.flows.plan import decide
    from pykexec.images.identify import identify
    from pykexec.placement.granted import DRY_RUN
    from pykexec.placement.implied import with_implied
    from pykexec.placement.initrd import check_initrd

    where, machine = target.dry_run(
        given.backend, given.machine_dir, given.root, output, symbols=given.crash_by_normal
    )
    machine = expected_region(given, machine, output)
    choice = syscall_of(given, machine)
    if choice and choice.is_file:
        from pykexec.cli.report.file_load import FileLoadReport
        from pykexec.flows.file_load import plan_file_load

        expected = plan_file_load(identify(kernel, profile=given.profile), machine, given.request)
        return FileLoadReport(where, expected, choice, loaded=False)
    image = identify(kernel, given.image_type, given.profile)
    request = with_implied(image, given.request)
    checked = check_initrd(image, request)
    granted = None
    if given.backend == "kernel" and given.crash_by_normal:
        granted = expected_mode(machine, request)
    planned = decide(image, machine, request, granted or DRY_RUN, checked)
    return LoadReport(where, planned, machine, granted=granted, syscall=choice)


def load(kernel: Path, given: LoadOptions, output: Output) -> LoadReport | FileLoadReport:
    """By the system call that was chosen."""
    where, backend = target.chosen(given.backend, given.machine_dir, output)
    machine = backend.machine()
    choice = syscall_of(given, machine)
    if choice and choice.is_file:
        return by_file(kernel, given, choice)
    from pykexec.flows.load import load as flow

    def run() -> LoadedPlan:
        return flow(kernel, backend, given.request, given.image_type)

    if given.may_make_region:
        from pykexec.backends.kernel.region import with_region

        done = with_region(target.as_kernel(backend), given.request_without_initrd.mode, run)
        machine = made_region(machine, backend.machine(), output)
    else:
        done = run()
    return LoadReport(where, done.planned, machine, done, done.granted, choice)


def made_region(before: Machine, after: Machine, output: Output) -> Machine:
    """The machine with its region, which is noted where it is new."""
    if after.crash_kernel and not before.crash_kernel:
        size = after.crash_kernel.size >> 10
        output.note(f"made a crash region of {size} KiB; pykexec region release gives it back")
    return after


def expected_region(given: LoadOptions, machine: Machine, output: Output) -> Machine:
    """With the region that the load would make."""
    if not given.may_make_region:
        return machine
    from pykexec.backends.kernel.region import with_expected_region

    found = with_expected_region(machine, given.request_without_initrd.mode)
    if found is not machine:
        output.note("the load would make a crash region first; its address is a guess")
    return found


def by_file(kernel: Path, given: LoadOptions, choice: SyscallChoice) -> FileLoadReport:
    """kexec_file_load(2)."""
    from pykexec.cli.report.file_load import FileLoadReport
    from pykexec.flows.file_load import file_load

    done = file_load(kernel, target.kernel_backend(), given.request)
    return FileLoadReport(Target("kernel", "this machine"), done, choice, loaded=True)


def syscall_of(given: LoadOptions, machine: Machine) -> SyscallChoice | None:
    """Which call the real kernel gets, and why; the simulated one has no choice."""
    if given.backend != "kernel":
        return None
    from pykexec.placement.syscall_choice import Syscall, choose_syscall

    asked = None if given.syscall == "auto" else Syscall(given.syscall)
    return choose_syscall(machine, given.request_without_initrd, asked, given.image_type)


def expected_mode(machine: Machine, request: LoadRequest) -> Granted:
    """The mode that a load would try first; whether its memory can be had is not tried."""
    from pykexec.backends.kernel.modes import choose_modes, mode_warnings
    from pykexec.placement.granted import Granted

    choice = choose_modes(machine, request.mode)
    mode = choice.modes[0]
    return Granted(mode, choice.why(mode), choice.lacking, mode_warnings(mode, machine))
