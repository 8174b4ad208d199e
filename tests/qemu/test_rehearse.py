"""How the output of two guests is interpreted; real guests are in tests/vm/test_rehearse.py."""

from __future__ import annotations

import io
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from pykexec.documents.codec import decode
from pykexec.dump.core_file import open_core
from pykexec.errors import KexecError
from pykexec.flows.rehearse.qemu import QemuMachine, listen, verdict
from pykexec.flows.rehearse.simulated import NoProgress
from pykexec.images.identify import identify
from pykexec.qemu.board import PC, VIRT
from pykexec.qemu.machine import STUB_PREFIX, GuestSession
from pykexec.qemu.messages import GuestMessages
from tests.builders import make_arm64_image, make_bzimage, pack, write
from tests.cli.conftest import INTERRUPTIBLE, Run, RunJson, folder, run, run_json

__all__ = ["folder", "run", "run_json"]

QEMU = ["rehearse", "bzImage", "--engine", "qemu"]
ROOT = Path(__file__).resolve().parents[2]
SPEAKER = f"""#!{sys.executable}
# As QEMU is started, and with the words of a guest on its second serial port.
import os, sys, time
chardevs = [word.split(",") for word in sys.argv if word.startswith("socket,")]
fds = {{name[3:]: int(fd[3:]) for _, name, fd in chardevs}}
assert open(sys.argv[sys.argv.index("-initrd") + 1], "rb").read(6) == b"070701"
os.write(fds["line"], open("messages", "rb").read())
def here(fd):
    try:
        return os.stat(fd).st_ino in ours
    except FileNotFoundError:
        return False
ours = [os.fstat(fd).st_ino for fd in fds.values()]
theirs = f"/proc/{{os.getppid()}}/fd"
while any(here(f"{{theirs}}/{{fd}}") for fd in os.listdir(theirs)):
    time.sleep(0.01)  # they are closed when it is sure that this process will be ended
open("pid", "w").write(str(os.getpid()))
time.sleep(float(open("stays").read()))
"""


@pytest.fixture
def speaker(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in place of QEMU, first on PATH; it prints the file `messages`."""
    (folder / "bin").mkdir()
    (folder / "bin" / PC.program).write_text(SPEAKER)
    (folder / "bin" / PC.program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    (folder / "stays").write_text("60")
    return folder


def say(*messages: dict[str, Any]) -> None:
    Path("messages").write_text("".join(json.dumps(message) + "\r\n" for message in messages))


@pytest.fixture
def story(run: Run, run_json: RunJson) -> list[dict[str, Any]]:
    """A load and a crash of a simulated machine, as two guests would report them."""
    run("machine", "create", "m", "--memory", "128M")
    words = ["load", "bzImage", "--machine", "m", "--crash-by-normal", "--crash-size", "32M"]
    plan = run_json(*words)
    run("machine", "crash", "m")
    core = open_core("m/vmcore")
    head = core.file.read(0, min(item.p_offset for item in core.loads))
    patterns = {"right": 7, "copies": 1, "lost": 0, "broken": 0, "first_bad": None}
    return [
        {"step": "loading"},
        {"plan": plan, "warnings": []},
        {"filled": 7, "cpus": 2},
        {"dump": {"size": core.size, "head": b64encode(head).decode(), "patterns": patterns}},
    ]


def test_a_whole_dump(
    run: Run, run_json: RunJson, speaker: Path, story: list[dict[str, Any]]
) -> None:
    say(*story)
    document = run_json(*QEMU, "--memory", "2G", "--used", "10")
    assert document["good"] is True
    assert document["machine"] == {"memory": 2 << 30, "used": 10, "cpus": 2, "reserved": 65536}
    assert document["window"] == story[1]["plan"]["window"]
    assert document["backup_runs"] == len([r for r in story[1]["plan"]["backup_map"]
                                           if r["dest"] != r["source"]])  # fmt: skip
    lines = run(*QEMU).stdout.splitlines()
    assert "engine      qemu: this machine was not touched" in lines
    assert lines[-1] == (
        "good: 7 of 7 old pages are readable at their original address, exactly once"
    )


@pytest.mark.parametrize(
    ("wrong", "rule"), [({"filled": 8}, "every-old-page"), ({"cpus": 3}, "cpu-notes")]
)
def test_a_dump_that_is_not_whole(
    story: list[dict[str, Any]], wrong: dict[str, int], rule: str
) -> None:
    messages = {name: value for message in story for name, value in message.items()} | wrong
    report = verdict(identify("bzImage"), QemuMachine(), decode(GuestMessages, messages))
    assert [check.rule for check in report.checks if not check.ok] == [rule]
    assert not report.good


def test_a_load_that_is_refused(run_json: RunJson, speaker: Path) -> None:
    """As if it had been refused here."""
    say({"refused": {"code": "no-hole", "message": "no room", "hint": "less"}, "status": 6})
    error = run_json(*QEMU, status=6)["error"]
    assert error == {"code": "no-hole", "message": "no room", "hint": "less"}


def test_a_window_that_finds_no_room(run_json: RunJson, speaker: Path) -> None:
    say({"refused": {"code": "window", "message": "no room", "hint": "less"}, "status": 6})
    assert run_json(*QEMU, status=6)["error"]["hint"].startswith("use a larger --memory: this")
    asked = run_json(*QEMU, "--crash-size", "64M", status=6)["error"]
    assert asked["hint"] == "less"


def test_a_machine_that_ends(run_json: RunJson, speaker: Path) -> None:
    say({"filled": 7, "cpus": 2})
    Path("stays").write_text("0")
    error = run_json(*QEMU, status=3)["error"]
    assert (error["code"], error["message"]) == (
        "no-dump",
        CAPTURE_ENDED,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_it(speaker: Path, number: int) -> None:
    say({"step": "on"})
    if number != signal.SIGKILL:  # otherwise the kernel ends it
        (speaker / "bin" / "setpriv").write_text('#!/bin/sh\nshift 2\nexec "$@"\n')
        (speaker / "bin" / "setpriv").chmod(0o755)
    (speaker / "tmp").mkdir()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(speaker / "tmp")}
    command = [*INTERRUPTIBLE, *QEMU]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as child:
        pid = wait_for_pid(speaker / "pid")
        child.send_signal(number)
        child.wait(60)
    deadline = time.monotonic() + 60
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < deadline, "the process in QEMU's place goes on"
        time.sleep(0.1)
    assert list((speaker / "tmp").iterdir()) == []


def wait_for_pid(path: Path) -> int:
    deadline = time.monotonic() + 60
    while not path.exists() or not path.read_text():
        assert time.monotonic() < deadline, "nothing was started"
        time.sleep(0.05)
    return int(path.read_text())


FIRST_ENDED = "the first kernel crashed, or ended the guest"
CAPTURE_ENDED = "the capture kernel crashed, or ended the guest"
DUMP = {"dump": {"size": 1, "head": "", "patterns": {}}}
FILLED = {"filled": 1, "cpus": 2}
NO_VMCORE = {"refused": {"message": "no vmcore", "hint": None, "code": "x"}, "status": 1}
SYSRQ = "Kernel panic - not syncing: sysrq triggered crash\n"
ENDS: list[tuple[str, list[dict[str, Any]], str, float, str, int, str, str]] = [
    ("no word", [], "", 60, "", 1, FIRST_ENDED, "nothing"),
    ("QEMU refuses", [], "", 60, "qemu: no memory\n", 1, FIRST_ENDED,
     "qemu: no memory"),
    ("QEMU warns", [], "booting\n", 60, "qemu: warning\n", 1,
     FIRST_ENDED, "booting"),
    ("panics early", [], "Kernel panic - not syncing: VFS\ntrace\n", 60, "", 1,
     FIRST_ENDED, "Kernel panic - not syncing: VFS"),
    ("a dump too early", [DUMP], "x\n", 60, "", 1, FIRST_ENDED, "x"),
    ("another program", [FILLED, {"dump": 3}], "x\n", 60, "", 1,
     "the output of the guest cannot be read: dump: expected Optional[GuestDump], found 3", "x"),
    ("no plan", [FILLED, DUMP], "x\n", 60, "", 3, CAPTURE_ENDED, "x"),
    ("hangs", [FILLED], SYSRQ + f"{STUB_PREFIX}starting\n", 0, "", 3,
     "the capture kernel did not finish within 1 seconds", "starting"),
    ("the stub refuses", [FILLED], SYSRQ + f"{STUB_PREFIX}digest differs\n", 60, "", 3,
     CAPTURE_ENDED, "digest differs"),
    ("no vmcore", [FILLED, NO_VMCORE], SYSRQ, 60, "", 3, "the capture kernel failed: no vmcore",
     SYSRQ.strip()),
]  # fmt: skip


@pytest.mark.parametrize(
    ("messages", "console", "limit", "qemu", "status", "message", "last"),
    [case[1:] for case in ENDS],
    ids=[case[0] for case in ENDS],
)
def test_a_machine_without_a_dump(
    messages: list[dict[str, Any]], console: str, limit: float, qemu: str, status: int,
    message: str, last: str,
) -> None:  # fmt: skip
    pairs = [socket.socketpair() for _ in range(2)]
    pairs[0][1].sendall(console.encode())
    pairs[1][1].sendall(b"".join(json.dumps(item).encode() + b"\n" for item in messages) + b"{no\n")
    for _, theirs in pairs:
        if limit:
            theirs.close()
    session = GuestSession(pairs[0][0], pairs[1][0], io.BytesIO(qemu.encode()))
    with pytest.raises(KexecError) as raised:
        listen(session, limit or 1, NoProgress())
    for pair in pairs:
        for end in pair:
            end.close()
    assert (raised.value.exit_status, raised.value.message) == (status, message)
    assert raised.value.hint == f"last line on its console: {last}"


def test_a_guest_that_never_stops_talking() -> None:
    """Output that is available after the timeout is neither waited for nor read."""
    pairs = [socket.socketpair() for _ in range(2)]
    pairs[1][1].sendall(b'{"step": "on"}\n')
    session = GuestSession(pairs[0][0], pairs[1][0], io.BytesIO())
    assert list(session.messages(0)) == []
    assert session.timed_out
    for pair in pairs:
        for end in pair:
            end.close()


REFUSED: list[tuple[list[str], int, str]] = [
    (["--seed", "0"], 2, "--seed is for --engine simulated"),
    (["--allocator", "random"], 2, "--allocator is for --engine simulated"),
    (["--relocate", "copy"], 2, "--relocate is for --engine simulated"),
    (["--type", "bzImage64"], 5, f"{PC.program} is not on PATH"),
]


@pytest.mark.parametrize(("words", "status", "message"), REFUSED)
def test_what_is_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: list[str], status: int, message: str
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert run(*QEMU, *words, status=status).stderr.startswith(f"pykexec: {message}\n  hint: ")


def test_the_simulated_kernel_needs_no_python(run: Run) -> None:
    result = run("rehearse", "bzImage", "--guest-root", "x", status=2)
    assert "--guest-root is for --engine qemu" in result.stderr


def test_a_kernel_for_another_machine(
    run_json: RunJson, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package is named first, then that the guests need a Python of their architecture."""
    other = VIRT if platform.machine() in PC.arch.unames else PC
    write(folder, "other", make_arm64_image() if other is VIRT else make_bzimage())
    words = ["rehearse", "other", "--engine", "qemu"]
    monkeypatch.setenv("PATH", "/nowhere")
    error = run_json(*words, status=5)["error"]
    assert (error["code"], error["message"]) == ("no-qemu", f"{other.program} is not on PATH")
    assert other.package in error["hint"]
    (folder / "bin").mkdir()
    (folder / "bin" / other.program).write_text(SPEAKER)
    (folder / "bin" / other.program).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder / "bin"))
    error = run_json(*words, status=5)["error"]
    assert error["code"] == "no-guest-python"
    assert "--guest-root" in error["hint"]
    error = run_json(*words, "--guest-root", str(folder), status=5)["error"]
    assert f"{folder}: no usr/bin/python" in error["message"]


@pytest.mark.parametrize(("page_bits", "reserved"), [(0, 64), (2, 64), (4, 128), (6, 512)])
def test_larger_pages_need_a_larger_region(tmp_path: Path, page_bits: int, reserved: int) -> None:
    image = identify(write(tmp_path, "Image", make_arm64_image(flags=8 | page_bits)))
    assert QemuMachine().for_kernel(image).reserved == reserved << 10


def test_a_kernel_that_qemu_does_not_start(run: Run, speaker: Path) -> None:
    Path("bzImage").write_bytes(pack(make_bzimage(), "gzip"))
    result = run(*QEMU, status=5)
    assert (
        "needs a bzImage64 or an arm64-image, but this is of type bzImage64 in gzip"
        in result.stderr
    )
