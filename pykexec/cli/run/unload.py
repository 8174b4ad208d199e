"""What `unload` does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.backends.backend import Slot, StagingBackend
from pykexec.cli.output import Output
from pykexec.cli.report.unload import UnloadReport
from pykexec.cli.run import target

if TYPE_CHECKING:
    from pathlib import Path


def run(crash: bool, backend: str, machine_dir: Path | None, as_json: bool, verbose: int) -> None:
    output = Output(as_json, verbose)
    where, acting = target.chosen(backend, machine_dir, output)
    slot = Slot.CRASH if crash else Slot.NORMAL
    with acting.session():
        was = acting.status()[slot]
        acting.unload(slot)
        busy = acting.busy_blocks if isinstance(acting, StagingBackend) else ()
    report = UnloadReport(where, slot, was, busy)
    output.warn(report.warnings)
    output.show(report, f"the {slot} image is freed")
