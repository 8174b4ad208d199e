"""The completion files are those that click generates, and work."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import BashComplete, get_completion_class

from pykexec.cli.program import program

ROOT = Path(__file__).resolve().parents[2]
FILES = {"bash": "bash/pykexec", "zsh": "zsh/_pykexec", "fish": "fish/pykexec.fish"}


@pytest.mark.parametrize("shell", FILES)
def test_the_files_are_current(
    shell: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--update-golden writes them, like golden files."""
    monkeypatch.setattr(BashComplete, "_check_version", staticmethod(lambda: None))
    kind = get_completion_class(shell)
    assert kind
    text = kind(program, {}, "pykexec", "_PYKEXEC_COMPLETE").source()
    path = ROOT / "completions" / FILES[shell]
    if request.config.getoption("--update-golden"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert path.read_text() == text


CASES = [
    ("pykexec reh", "rehearse"),
    ("pykexec machine cr", "crash create"),
    ("pykexec load --crash-", "--crash-by-normal --crash-size"),
    ("pykexec load k --mode st", "stub-swap"),
    ("pykexec machine create m --allocator l", "lowest"),
    ("pykexec vmcore verify --p", "--plan"),
]


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
@pytest.mark.parametrize(("line", "expected"), CASES)
def test_in_bash(folder: Path, line: str, expected: str) -> None:
    shim = folder / "pykexec"
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pykexec "$@"\n')
    shim.chmod(0o755)
    words = line.split()
    code = (
        f'. "{ROOT}/completions/bash/pykexec"\n'
        f"COMP_WORDS=({' '.join(words)}) COMP_CWORD={len(words) - 1}\n"
        '_pykexec_completion pykexec\necho "${COMPREPLY[*]}"\n'
    )
    env = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", code], env=env, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == (expected, "")
