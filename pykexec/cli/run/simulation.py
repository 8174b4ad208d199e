"""A simulated machine as the backend of a command."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pykexec.backends.simulated import SimulatedBackend
from pykexec.backends.simulated.store.machine_folder import STATE, NotAMachine, NotEmpty
from pykexec.cli.report.target import Target

if TYPE_CHECKING:
    from pykexec.cli.output import Output


def own_machine() -> Path:
    """$XDG_STATE_HOME/pykexec/machine: the default simulated machine."""
    state = os.environ.get("XDG_STATE_HOME", "")
    base = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return base / "pykexec" / "machine"


def is_missing(folder: Path | None) -> bool:
    """Whether `machine` with `make` creates the default machine."""
    return folder is None and not (own_machine() / STATE).exists()


def machine(
    folder: Path | None, output: Output, make: bool = False
) -> tuple[Target, SimulatedBackend]:
    """The machine in `folder`, or the default one, which is created if `make`. Raises
    NotAMachine."""
    path = folder or own_machine()
    if is_missing(folder):
        if not make:
            raise NotAMachine(
                f"there is no simulated machine {path}",
                hint="--backend kernel acts on this machine's kernel; "
                "pykexec load makes a simulated machine",
            )
        with suppress(NotEmpty):  # another pykexec has created it
            SimulatedBackend.create(path)
            output.note(f"created the simulated machine {path}")
    where = Target("simulated", f"machine {path}", unnamed=folder is None)
    return where, SimulatedBackend.open(path)
