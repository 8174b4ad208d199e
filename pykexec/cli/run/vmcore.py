"""What `vmcore info` and `vmcore verify` do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.backends.simulated import SimulatedBackend
from pykexec.cli.output import Output
from pykexec.cli.report.dump import DumpReport, DumpVerdictReport
from pykexec.cli.report.vmcore import VmcoreReport, VmcoreVerdictReport
from pykexec.cli.watched import watched
from pykexec.dump.core_file import open_core
from pykexec.dump.dump_check import contents_of, verify_dump
from pykexec.dump.reader import open_dump
from pykexec.dump.vmcore_check import expected_of_plan
from pykexec.dump.vmcore_check import verify as verify_core
from pykexec.errors import CheckFailed, NotSupported, UsageError
from pykexec.flows.rehearse.simulated import expected_of_machine

if TYPE_CHECKING:
    from pathlib import Path

    from pykexec.dump.dump_check import DumpVerdict
    from pykexec.dump.vmcore_check import Expected, VmcoreVerdict


def info(file: Path, as_json: bool, verbose: int) -> None:
    output = Output(as_json, verbose)
    try:
        output.show(VmcoreReport(open_core(file)))
    except NotSupported:  # kdump-compressed, or flattened
        output.show(DumpReport(contents_of(open_dump(str(file)))))


def verify(
    file: Path, machine_dir: Path | None, plan: Path | None, as_json: bool, verbose: int
) -> int:
    """The exit status."""
    if machine_dir and plan:
        raise UsageError("--machine and --plan exclude each other")
    expected = expected_of_plan(plan) if plan else None
    if machine_dir:
        expected = _expected_of(machine_dir)
    output = Output(as_json, verbose)
    verdict: VmcoreVerdict | DumpVerdict
    report: VmcoreVerdictReport | DumpVerdictReport
    with watched(not as_json) as watch:
        watch("the file", 0)
        try:
            verdict = verify_core(file, expected, watch)
            report = VmcoreVerdictReport(verdict)
        except NotSupported:  # kdump-compressed, or flattened
            verdict = verify_dump(open_dump(str(file)), expected, watch)
            report = DumpVerdictReport(verdict)
    output.show(report)
    return 0 if verdict.whole else CheckFailed.exit_status


def _expected_of(machine: Path) -> Expected:
    return expected_of_machine(SimulatedBackend.open(machine))
