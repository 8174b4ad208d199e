"""What `unload` does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.backends.backend import LoadState, Slot, StagingBackend
from pykexec.cli.output import Output
from pykexec.cli.report.unload import UnloadReport
from pykexec.cli.run import target
from pykexec.host.kexec import kexec_state
from pykexec.host.root import THIS_MACHINE, Root

if TYPE_CHECKING:
    from pathlib import Path


def run(crash: bool, backend: str, machine_dir: Path | None, as_json: bool, verbose: int) -> None:
    output = Output(as_json, verbose)
    where, acting = target.chosen(backend, machine_dir, output)
    slot = Slot.CRASH if crash else Slot.NORMAL
    with acting.session():
        was = acting.status()[slot]
        acting.unload(slot)
        left = acting.left_blocks if isinstance(acting, StagingBackend) else ()
    report = UnloadReport(where, slot, was, left)
    output.warn(report.warnings)
    output.show(report, f"the {slot} image is freed")
    if where.notice and was is LoadState.NOT_LOADED and is_loaded(slot):
        output.note(
            f"only the simulated machine was unloaded: the {slot} image of this machine's kernel "
            "is still loaded (--backend kernel)"
        )


def is_loaded(slot: Slot, root: Root = THIS_MACHINE) -> bool:
    """Whether the kernel of this machine has an image there; everyone may read that."""
    state = kexec_state(root)
    return (state.crash_loaded if slot is Slot.CRASH else state.loaded) is True
