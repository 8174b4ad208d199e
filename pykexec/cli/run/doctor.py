"""What `doctor` does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.backends.kernel.bays import Bays
from pykexec.backends.kernel.record import BadRecord
from pykexec.cli.output import Output
from pykexec.cli.report.doctor import DoctorReport
from pykexec.errors import CheckFailed, NotPermitted
from pykexec.flows.doctor import diagnose
from pykexec.host.captured import open_root
from pykexec.host.facts import read_machine
from pykexec.host.lock import RUN_FOLDER
from pykexec.host.root import THIS_MACHINE
from pykexec.machine import Unknown

if TYPE_CHECKING:
    from pathlib import Path

    from pykexec.flows.doctor.loaded import Ours


def run(root: Path | None, as_json: bool, verbose: int) -> int:
    """Diagnose the machine; returns the exit status."""
    machine = read_machine(open_root(root) if root else THIS_MACHINE)
    report = DoctorReport(machine.name, diagnose(machine, None if root else _noted_here()))
    Output(as_json, verbose).show(report)
    return CheckFailed.exit_status if report.problems else 0


def _noted_here() -> Ours:
    """What pykexec has loaded into this kernel; unknown without permission to read it."""
    try:
        return Bays(RUN_FOLDER).used.records.read()
    except (BadRecord, NotPermitted) as error:
        return Unknown(error.message)
