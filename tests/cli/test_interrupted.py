"""SIGINT while a program is still importing: one line, and the same exit status as later."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EARLY = """
import os, signal, sys

signal.signal(signal.SIGINT, signal.default_int_handler)


class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)


sys.meta_path.insert(0, Finder())
sys.argv = ["the program", "--help"]
{program}
main()
"""
"""The signal is sent at the import of a module, independent of the computer's load."""
PATH = {"PYTHONPATH": str(Path(__file__).parents[2])}
PYKEXEC = "from pykexec.cli import main"
DROP_IN = "from pykexec.cli.kexec8 import main"
MOMENTS = [
    (PYKEXEC, "pykexec.cli.program", 130, "pykexec: interrupted\n"),
    (PYKEXEC, "click", 130, "pykexec: interrupted\n"),
    (PYKEXEC, "pykexec.errors", 130, "pykexec: interrupted\n"),
    (DROP_IN, "pykexec.cli.kexec8.say", 255, "pykexec-kexec: interrupted\n"),
    (DROP_IN, "pykexec.cli.kexec8.program", 255, "pykexec-kexec: interrupted\n"),
    (DROP_IN, "pykexec.images.contents", 255, "pykexec-kexec: interrupted\n"),
]


@pytest.mark.parametrize(("program", "module", "status", "output"), MOMENTS)
def test_at_an_import(program: str, module: str, status: int, output: str) -> None:
    code = EARLY.format(program=program, module=module)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | PATH)
    assert (done.returncode, done.stderr, done.stdout) == (status, output, "")
