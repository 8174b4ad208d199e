"""The program with a standard output or standard error that cannot be written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders import make_bzimage, write

LOAD = """
import sys
from pathlib import Path
from pykexec.cli.streams import guard_streams
from pykexec.cli.kexec8.drop_in import DropInKernel
from pykexec.cli.kexec8.program import run
from tests.backends.kernel.calls import Calls
from tests.builders import make_machine

guard_streams()
calls = Calls()
made = lambda debug: DropInKernel(calls, Path("run"), debug, make_machine)
status = run(sys.argv[1:], made)
Path("loads").write_text(str(len(calls.loads)))
sys.exit(status)
"""
"""With calls that do not reach a kernel."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "bzImage", make_bzimage())
    return tmp_path


def shell(code: str, words: str, redirected: str) -> subprocess.CompletedProcess[str]:
    command = f'exec "$0" -c "$1" {words} {redirected}'
    argv = ["sh", "-c", command, sys.executable, code]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("words", ["--help", "--version"])
@pytest.mark.parametrize(
    ("out", "why"),
    [(">/dev/full", "no space left on device"), (">&-", "bad file descriptor")],
)
def test_an_answer_that_cannot_be_given(words: str, out: str, why: str) -> None:
    done = shell(LOAD, words, out)
    assert done.returncode == 255
    assert done.stderr == f"pykexec-kexec: standard output: {why}\n"


@pytest.mark.parametrize("streams", ["", "2>/dev/full", "2>&-", ">&-", ">/dev/full 2>/dev/full"])
@pytest.mark.parametrize("option", ["-d", "--console-vga", "--force-dtb", "-d --no-checks"])
def test_a_load_answers_on_neither(folder: Path, option: str, streams: str) -> None:
    done = shell(LOAD, f"-c -l bzImage {option}", streams)
    assert (done.returncode, done.stdout) == (0, "")
    assert (folder / "loads").read_text() == "1"
    if not streams:
        assert done.stderr, "this option says something"


@pytest.mark.parametrize("streams", ["2>/dev/full", "2>&-"])
def test_a_refusal_keeps_its_status(streams: str) -> None:
    assert shell(LOAD, "-c -l missing", streams).returncode == 1
    assert shell(LOAD, "-c -l bzImage --mem-min=zero", streams).returncode == 1
