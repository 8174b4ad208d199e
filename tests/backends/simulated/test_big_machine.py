"""4 GiB, a window of 240 MiB, the worst allocator: still fast, and with little memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHILD = r"""
import re, sys
from pykexec.backends.simulated import SimulatedBackend
from pykexec.memory.ranges import PhysRange
from tests.backends.simulated.images import capture_image, load_bound

backend = SimulatedBackend.create(sys.argv[1], 4 << 30, seed=1, allocator="random")
window = PhysRange.sized(64 << 20, 240 << 20)
load_bound(backend, capture_image(window, headers=4 << 20, kernel_pages=2048))
loads = backend.crash().loads
# not getrusage: its ru_maxrss has what the parent held when it forked
peak = re.search(r"VmHWM:\s+(\d+) kB", open("/proc/self/status").read())[1]
print(loads, int(peak) >> 10)
"""


@pytest.mark.slow
def test_four_gibibytes(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path / "m")],
        cwd=root, check=True, capture_output=True, text=True,
    )  # fmt: skip
    loads, mebibytes = map(int, done.stdout.split())
    assert loads > 50_000
    assert mebibytes < 300
