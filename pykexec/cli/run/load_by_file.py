"""What `load` does with kexec_file_load(2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.cli.report.file_load import FileLoadReport
from pykexec.cli.report.target import Target
from pykexec.cli.run import real
from pykexec.flows.file_load import file_load, plan_file_load
from pykexec.images.identify import identify

if TYPE_CHECKING:
    from pathlib import Path

    from pykexec.cli.run.load_wishes import LoadWishes
    from pykexec.machine import Machine
    from pykexec.placement.syscall_choice import SyscallChoice


def plan(
    kernel: Path, asked: LoadWishes, machine: Machine, where: Target, choice: SyscallChoice
) -> FileLoadReport:
    """For a dry run."""
    image = identify(kernel, profile=asked.given.profile)
    expected = plan_file_load(image, machine, asked.request)
    return FileLoadReport(where, expected, choice, loaded=False)


def load(kernel: Path, asked: LoadWishes, choice: SyscallChoice) -> FileLoadReport:
    done = file_load(kernel, real.backend(), asked.request)
    return FileLoadReport(Target("kernel", "this machine"), done, choice, loaded=True)
