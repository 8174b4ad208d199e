"""What `machine create`, `show`, `crash` and `capture` do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pykexec.backends.simulated import SimulatedBackend
from pykexec.cli.output import Output
from pykexec.cli.report.captured import CapturedReport
from pykexec.cli.report.machine import MachineReport
from pykexec.cli.report.started import StartedReport
from pykexec.cli.report.target import Target
from pykexec.errors import UsageError
from pykexec.host import captured as host_captured
from pykexec.host.facts import read_machine
from pykexec.host.redact import redacted
from pykexec.host.root import THIS_MACHINE
from pykexec.machine import Unknown

if TYPE_CHECKING:
    from pathlib import Path

    from pykexec.machine import Machine

MEMORY = 1 << 30
"""Default memory of a machine, in bytes."""


def create(
    folder: Path,
    memory: int | None,
    captured: Path | None,
    as_json: bool,
    verbose: int,
    **options: Any,
) -> None:
    if captured and memory:
        raise UsageError("--memory would be ignored: --from has the memory map")
    SimulatedBackend.create(
        folder,
        memory or MEMORY,
        from_machine=_facts_of(captured) if captured else None,
        **options,
    )
    show(folder, as_json, verbose, "the machine is made")


def _facts_of(captured: Path) -> Machine:
    """The machine that a file or folder of /proc and /sys describes."""
    return read_machine(host_captured.open_root(captured))


def show(folder: Path, as_json: bool, verbose: int, done: str = "") -> None:
    shown = SimulatedBackend.open(folder).show()
    Output(as_json, verbose).show(MachineReport(str(folder), shown), done)


def crash(folder: Path, as_json: bool, verbose: int) -> None:
    switched = SimulatedBackend.open(folder).crash()
    report = StartedReport(Target("simulated", f"machine {folder}"), "crash", switched)
    Output(as_json, verbose).show(report, "the machine crashed")


def capture(
    file: Path,
    root: Path | None,
    redact: bool,
    redact_keys: tuple[str, ...],
    as_json: bool,
    verbose: int,
) -> None:
    captured = host_captured.capture(host_captured.open_root(root) if root else THIS_MACHINE)
    if redact or redact_keys:
        captured = redacted(captured, redact_keys)
    host_captured.write_capture(captured, file)
    unreadable = tuple(
        found.why for _, found in sorted(captured.files.items()) if isinstance(found, Unknown)
    )
    counts = len(captured.files) - len(unreadable), len(captured.folders)
    report = CapturedReport(str(file), *counts, unreadable)
    Output(as_json, verbose).show(report, f"{file} is written")
