"""Work in a child process: its result, its faults, and that nothing of it stays."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from pykexec.backends.saving.limited import StepFailed, limited
from pykexec.errors import KexecError


def failure(work: object, seconds: float = 20) -> str:
    with pytest.raises(StepFailed) as caught:
        limited(work, seconds)  # type: ignore[arg-type]
    return caught.value.message


def test_the_result_comes_back() -> None:
    assert limited(lambda: {"size": 3, "names": ["a"]}, 20) == {"size": 3, "names": ["a"]}


def test_a_large_result_does_not_stop_at_the_room_of_a_pipe() -> None:
    assert len(limited(lambda: "x" * 300_000, 20)) == 300_000


def test_it_is_another_process() -> None:
    assert limited(os.getpid, 20) != os.getpid()


def raising(error: BaseException) -> object:
    def work() -> None:
        raise error

    return work


def test_faults_keep_their_words() -> None:
    assert failure(raising(KexecError("the disk is on fire"))) == "the disk is on fire"
    assert failure(raising(FileNotFoundError(2, "No such file", "/x"))) == "/x: no such file"
    assert failure(raising(MemoryError())) == "not enough memory"


def test_a_mistake_of_ours_is_a_failed_step(capfd: pytest.CaptureFixture[str]) -> None:
    assert failure(raising(ZeroDivisionError("ours"))) == "its process failed with exit status 1"
    assert "ZeroDivisionError: ours" in capfd.readouterr().err


def test_a_killed_process_is_named() -> None:
    def work() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    assert failure(work) == "its process was killed by SIGKILL"


def test_what_takes_too_long_is_killed_with_all_it_started(tmp_path: Path) -> None:
    started = tmp_path / "started"

    def work() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen(["sleep", "1000"])
        started.write_text(str(child.pid))
        child.wait()

    begun = time.monotonic()
    assert failure(work, 1) == "not finished after 1 s"
    assert time.monotonic() - begun < 4
    grandchild = int(started.read_text())
    for _ in range(100):
        if not Path(f"/proc/{grandchild}").exists() or zombie(grandchild):
            return
        time.sleep(0.02)
    os.kill(grandchild, signal.SIGKILL)
    raise AssertionError("it was still there")


def zombie(pid: int) -> bool:
    return ") Z" in Path(f"/proc/{pid}/stat").read_text()


def test_what_is_left_in_the_background_is_killed_too(tmp_path: Path) -> None:
    """A child that keeps the pipe open does not hold up the next step either."""

    def work() -> int:
        return subprocess.Popen(["sleep", "1000"], close_fds=False).pid

    begun = time.monotonic()
    pid = limited(work, 20)
    assert time.monotonic() - begun < 10
    time.sleep(0.1)
    assert not Path(f"/proc/{pid}").exists() or zombie(pid)


def test_a_signal_without_a_name() -> None:
    number = signal.SIGRTMIN + 1
    with pytest.raises(StepFailed, match=f"was killed by signal {number}"):
        limited(lambda: os.kill(os.getpid(), number), 10)
