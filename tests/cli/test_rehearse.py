"""What a rehearsal leaves behind, and its progress messages."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pykexec.cli.program import HUNG_UP, TERMINATED
from pykexec.cli.run import rehearse
from pykexec.cli.streams import INTERRUPTED
from tests.builders import make_bzimage
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
    ("words", "expected"), [([], True), (["--json"], False)], ids=["drawn", "json"]
)
def test_steps_are_for_a_terminal(folder: Path, words: list[str], expected: bool) -> None:
    """Every step is shown, and the machine is removed as without a terminal."""
    code = (
        "from pykexec.cli import main\nfrom pykexec.cli.run import rehearse\n"
        "rehearse.QUIET = 0.0\n"
        f"import sys; sys.argv[1:] = ['rehearse', 'bzImage', *{[*SMALL, *words]!r}]\nmain()"
    )
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(folder), stdout=subprocess.DEVNULL,
        stderr=theirs,
    )  # fmt: skip
    os.write(theirs, b"end")
    told = b""
    while not told.endswith(b"end"):  # a terminal returns what is available
        told += os.read(ours, 1 << 16)
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 0
    assert (b"pykexec: panic, and the capture kernel" in told) is expected


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ([], "use a larger --memory: this machine has 64 MiB"),
        (["--crash-size", "80M"], "use a smaller --crash-size"),
    ],
)
def test_a_machine_that_is_too_small_is_to_blame(
    run: Run, folder: Path, words: list[str], hint: str
) -> None:
    (folder / "bzImage").write_bytes(make_bzimage(init_size=0x3378000))
    result = run("rehearse", "bzImage", "--memory", "64M", *words, status=6)
    assert f"hint: {hint}" in result.stderr


def test_a_kernel_that_copies_keeps_no_old_pages(run: Run) -> None:
    result = run("rehearse", "bzImage", *SMALL, "--relocate", "copy", status=5)
    assert result.stdout == ""
    assert "hint: a kernel that copies pages cannot keep the old ones" in result.stderr
