"""Every backend that the contract suite runs over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.rig import Rig, SimulatedRig

RIGS: dict[str, Callable[[Path], Rig]] = {
    "simulated, swap": lambda folder: SimulatedRig(folder),
    "simulated, copy": lambda folder: SimulatedRig(folder, relocate="copy"),
}
"""The real kernel is added by tests/vm, inside of a machine that may be lost."""


@pytest.fixture(params=RIGS)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    return RIGS[request.param](tmp_path)
