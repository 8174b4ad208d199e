"""A report on any dump takes at most five seconds of processor time beyond reading the file, and
100 MiB of memory."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.dump.costly import COSTLY, SIZE, VERIFIED

SECONDS, MEMORY_KIB = 5.0, 100 << 10
CHUNK = 128 << 10
MEASURED = """
import sys
from pathlib import Path
from time import process_time
from pykexec.cli import main
try:
    main()
finally:
    status = Path("/proc/self/status").read_text()
    (memory,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    print("cost:", process_time(), memory, file=sys.stderr)
"""


def cost(verb: str, path: Path) -> tuple[float, int, str]:
    """Processor seconds, the largest size in KiB, and what was printed."""
    words = [sys.executable, "-c", MEASURED, "vmcore", verb, str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("cost:")]
    _, seconds, memory = line.split()
    assert "Traceback" not in done.stderr
    return float(seconds), int(memory), done.stdout


def reading(path: Path) -> float:
    """Processor seconds for reading a file that is in the page cache, as it then is: otherwise the
    first of several readers would pay for that."""
    _read(path)
    return _read(path)


def _read(path: Path) -> float:
    start = time.process_time()
    with path.open("rb", buffering=0) as file:
        while file.read(CHUNK):
            pass
    return time.process_time() - start


@pytest.mark.parametrize("name", COSTLY)
def test_a_report_is_bounded(name: str, tmp_path: Path) -> None:
    path = tmp_path / "dump"
    COSTLY[name](path)
    assert path.stat().st_size <= SIZE + (64 << 10)
    most = SECONDS + reading(path)
    seconds, memory, page = cost("report", path)
    assert "\ndump  " in page
    assert seconds < most
    assert memory < MEMORY_KIB


@pytest.mark.parametrize("name", ["kdump_of_holes", "kdump_of_tiny_pages", "kdump_of_specks"])
def test_a_check_is_bounded(name: str, tmp_path: Path) -> None:
    """In time: a set of a million ranges is larger than a report."""
    path = tmp_path / "dump"
    VERIFIED[name](path)
    most = SECONDS + reading(path)
    seconds, _, page = cost("verify", path)
    assert "not complete: " in page
    assert seconds < most
