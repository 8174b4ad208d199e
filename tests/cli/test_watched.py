"""The bar while a dump is read: on a terminal, and nowhere else."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builders import write
from tests.dump.builders import Memory, kdump
from tests.dump.kernel import Kernel

CASES: dict[str, Callable[[], bytes]] = {
    "report": lambda: bytes(Kernel().elf()),
    "verify": lambda: kdump(Memory()),
}


def errors(terminal: bool, *words: str | Path) -> str:
    """What a command writes to standard error."""
    command = [sys.executable, "-m", "pykexec", "vmcore", *map(str, words)]
    if not terminal:
        return subprocess.run(command, capture_output=True, text=True).stderr
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs, env=env) as process:
        os.close(theirs)
        parts = []
        try:
            while part := os.read(ours, 4096):
                parts.append(part)
        except OSError:  # EIO: the other end is closed
            pass
        process.wait()
    os.close(ours)
    return b"".join(parts).decode()


@pytest.mark.parametrize("verb", CASES)
def test_a_bar_on_a_terminal_alone(verb: str, tmp_path: Path) -> None:
    path = write(tmp_path, "dump", CASES[verb]())
    output = errors(True, verb, path)
    assert "Reading" in output
    assert "\x1b[2K" in output.rpartition("Reading")[2], "the line is removed at the end"
    assert errors(False, verb, path) == ""
    assert "Reading" not in errors(True, verb, path, "--json")
