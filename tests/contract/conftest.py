"""The backends that the contract suite runs on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.rig import KernelRig, Rig, SimulatedRig

SIMULATED: dict[str, Callable[[Path], Rig]] = {
    "simulated, swap": lambda folder: SimulatedRig(folder),
    "simulated, copy": lambda folder: SimulatedRig(folder, relocate="copy"),
}
REAL: dict[str, Callable[[Path], Rig]] = {"kernel": lambda folder: KernelRig()}

RIGS = REAL if os.environ.get("PYKEXEC_CONTRACT") == "kernel" else SIMULATED
"""tests/vm sets the variable, inside an expendable machine."""


@pytest.fixture(params=RIGS)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    return RIGS[request.param](tmp_path)
