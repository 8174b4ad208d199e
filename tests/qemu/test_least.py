"""The search for the smallest window: what it tries, what it believes, and what it says."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.cli.report.least import LeastReport
from pykexec.documents.codec import encode
from pykexec.flows.rehearse.least import BOOTS, STEP, Least, Try, search
from pykexec.flows.rehearse.qemu import QemuMachine
from pykexec.images.identify import identify
from pykexec.qemu.board import PC
from tests.cli.conftest import Run, RunJson, folder, run, run_json
from tests.documents import validate

from .test_rehearse import story

__all__ = ["folder", "run", "run_json", "story"]

MIB = 1 << 20
LEAST = ["rehearse", "bzImage", "--engine", "qemu", "--least"]
SIZES = st.integers(1, 128).map(lambda n: n * STEP)


@given(needed=SIZES, first=SIZES, floor=SIZES)
def test_what_is_found_is_enough_and_was_tried(needed: int, first: int, floor: int) -> None:
    tried: list[int] = []

    def enough(size: int) -> bool:
        tried.append(size)
        return size >= needed

    floor = min(floor, needed - STEP)
    least, too_small = search(enough, first, floor, 1 << 40)
    assert len(tried) == len(set(tried)) <= BOOTS
    assert all(floor < size and size % STEP == 0 for size in tried)
    if least is None:
        assert needed > first << BOOTS - 1
        return
    assert least in tried
    assert least == min(size for size in tried if size >= needed)
    assert too_small == max([floor, *(size for size in tried if size < needed)])
    if len(tried) < BOOTS:
        assert least - too_small <= STEP


def test_nothing_beyond_the_memory_is_tried() -> None:
    tried: list[int] = []

    def enough(size: int) -> bool:
        tried.append(size)
        return False

    least, _ = search(enough, 64 * MIB, 0, 256 * MIB)
    assert (least, tried) == (None, [64 * MIB, 128 * MIB])


SPEAKER = f"""#!{sys.executable}
# As QEMU is started, with a capture kernel that needs the bytes in the file `needs`.
import json, os, re, sys
chardevs = [word.split(",") for word in sys.argv if word.startswith("socket,")]
fds = {{name[3:]: int(fd[3:]) for _, name, fd in chardevs}}
initramfs = open(sys.argv[sys.argv.index("-initrd") + 1], "rb").read()
size = int(re.search(rb"--crash-size=(\\d+)", initramfs)[1])
story = json.load(open("story"))
if size > int(open("room").read()):
    refused = {{"code": "does-not-fit", "message": "no room", "hint": "--memory"}}
    story = [{{"refused": refused, "status": 6}}]
elif size < int(open("needs").read()):
    story = story[:-1]
for message in story:
    os.write(fds["line"], json.dumps(message).encode() + b"\\n")
"""


@pytest.fixture
def speaker(folder: Path, story: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Path:
    (folder / "bin").mkdir()
    (folder / "bin" / PC.program).write_text(SPEAKER)
    (folder / "bin" / PC.program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    (folder / "story").write_text(json.dumps(story))
    (folder / "room").write_text(str(1 << 40))
    return folder


def test_the_option_to_use(run: Run, speaker: Path) -> None:
    """And every boot is announced."""
    (speaker / "needs").write_text(str(100 * MIB))
    result = run(*LEAST)
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["window", "result"]
    assert "96 MiB   the capture kernel crashed, or ended the guest" in lines
    assert "100 MiB  enough" in lines
    assert " 100 MiB; 96 MiB is too small\n" in result.stdout
    assert lines[-1] == "use --crash-size 116M"
    assert f"pykexec: boot 1 of at most {BOOTS}: a window of 68 MiB" in result.stderr
    assert "pykexec: 100 MiB: enough\n" in result.stderr


def test_the_document(folder: Path) -> None:
    tries = (Try(96 * MIB, "no"), Try(100 * MIB + STEP))
    found = Least(identify("bzImage"), QemuMachine(), tries, 102 * MIB, 96 * MIB, MIB, 144 * MIB, 5)
    document = json.loads(encode(LeastReport(found).document()))
    validate(document)
    assert (document["crash_size"], document["option"]) == (104 * MIB, "--crash-size 104M")
    assert document["tries"][0] == {"size": 96 * MIB, "good": False, "why": "no"}
    assert document["tries"][1]["why"] is None


def test_a_kernel_for_which_nothing_is_enough(run_json: RunJson, speaker: Path) -> None:
    (speaker / "needs").write_text(str(1 << 40))
    error = run_json(*LEAST, status=3)["error"]
    assert error["code"] == "no-window"
    assert error["message"].endswith(
        "MiB was enough: the capture kernel crashed, or ended the guest"
    )


def test_a_larger_window_than_the_machine_has_room_for(run_json: RunJson, speaker: Path) -> None:
    (speaker / "needs").write_text(str(1 << 40))
    (speaker / "room").write_text(str(100 * MIB))
    error = run_json(*LEAST, status=3)["error"]
    assert (error["code"], len(error["tries"])) == ("no-window", 1)
    assert error["hint"].startswith("use a larger --memory")


def test_a_machine_that_is_too_small_is_no_answer(run_json: RunJson, speaker: Path) -> None:
    """The first window is refused before any is tried: that says nothing about the kernel."""
    (speaker / "needs").write_text("0")
    (speaker / "room").write_text(str(8 * MIB))
    error = run_json(*LEAST, status=6)["error"]
    assert (error["message"], error["hint"]) == ("no room", "--memory")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--engine", "simulated", "--least"], "--least is for --engine qemu"),
        (["--engine", "qemu", "--margin", "4M"], "--margin is for --least"),
        (
            ["--engine", "qemu", "--least", "--crash-size", "64M"],
            "--least and --crash-size exclude each other",
        ),
    ],
)
def test_options_without_an_effect_are_refused(run: Run, words: list[str], message: str) -> None:
    assert message in run("rehearse", "bzImage", *words, status=2).stderr
