"""What a rehearsal leaves behind, and its progress messages."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from pykexec.cli.program import HUNG_UP, TERMINATED
from pykexec.cli.run import rehearse
from pykexec.cli.streams import INTERRUPTED
from tests.cli.conftest import INTERRUPTIBLE, Run

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [*INTERRUPTIBLE, "rehearse", "bzImage"]
SMALL = ["--memory", "128M", "--crash-size", "32M"]


def environment(folder: Path) -> dict[str, str]:
    (folder / "tmp").mkdir()
    return os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder / "tmp")}


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGHUP, HUNG_UP),
        (signal.SIGINT, INTERRUPTED),
        (signal.SIGTERM, TERMINATED),
    ],
)
def test_nothing_is_left_of_one_that_was_ended(folder: Path, number: int, status: int) -> None:
    """It is ended when its machine exists."""
    with subprocess.Popen(
        [*COMMAND, "--memory", "4G"], env=environment(folder),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        deadline = time.monotonic() + 120
        while not list(folder.glob("tmp/*/machine/ram")):
            assert child.poll() is None, child.communicate()
            assert time.monotonic() < deadline, "no machine was made"
            time.sleep(0.01)
        child.send_signal(number)
        out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (status, ""), err
    assert "Traceback" not in err
    assert list(folder.glob("tmp/*")) == []


def test_nothing_is_left_of_one_that_is_done(folder: Path) -> None:
    done = subprocess.run(
        [*COMMAND, *SMALL], env=environment(folder), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert list(folder.glob("tmp/*")) == []


def test_steps_are_told_when_it_takes_a_while(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr("pykexec.cli.run.rehearse.time.monotonic", lambda: now[0])
    steps = rehearse.Steps()
    steps.step("loading")
    now[0] += rehearse.QUIET
    steps.step("filling memory")
    assert capsys.readouterr().err == "pykexec: filling memory\n"


@pytest.mark.parametrize(
    ("words", "expected"), [([], True), (["--json"], False)], ids=["text", "json"]
)
def test_steps_are_printed(folder: Path, words: list[str], expected: bool) -> None:
    """Also where standard error is no terminal, but not beside a document."""
    code = (
        "from pykexec.cli import main\nfrom pykexec.cli.run import rehearse\n"
        "rehearse.QUIET = 0.0\n"
        f"import sys; sys.argv[1:] = ['rehearse', 'bzImage', *{[*SMALL, *words]!r}]\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(folder), capture_output=True, text=True
    )
    assert done.returncode == 0
    assert ("pykexec: panic, and the capture kernel" in done.stderr) is expected


def test_a_bar_on_a_terminal(folder: Path) -> None:
    """It shows the step under way, and is gone at the end, with the cursor shown again."""
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "pykexec", "rehearse", "bzImage", *SMALL]
    variables = {**environment(folder), "TERM": "xterm", "COLUMNS": "100"}
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=terminal, env=variables)
    os.close(terminal)
    shown = b""
    with suppress(OSError):  # nobody holds the terminal any more
        while piece := os.read(controller, 1 << 16):
            shown += piece
    os.close(controller)
    answer, _ = running.communicate()
    assert running.returncode == 0
    assert b"panic, and the capture kernel" in shown
    assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l") > -1
    assert b"good: " in answer


def test_a_kernel_that_copies_keeps_no_old_pages(run: Run) -> None:
    result = run("rehearse", "bzImage", *SMALL, "--relocate", "copy", status=5)
    assert result.stdout == ""
    assert "hint: a kernel that copies pages cannot keep the old ones" in result.stderr
