"""What pykexec setup shows, refuses and answers."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from pykexec.backends.setup.acting import Acting
from pykexec.backends.setup.acting import run as run_command
from pykexec.cli.out.plain import text
from pykexec.cli.output import Output
from pykexec.cli.report.setup import SetupReport, UndoReport
from pykexec.cli.run import setup
from pykexec.documents import codec
from pykexec.errors import NotPermitted, UsageError
from pykexec.host.lock import Busy
from tests.conftest import Golden
from tests.setup_trees import ARM64, DEBIAN, KDUMP_TOOLS, TREES, apply, build

from .conftest import Run, RunJson


@pytest.mark.parametrize("name", TREES)
def test_what_would_change(tmp_path: Path, run: Run, golden: Golden, name: str) -> None:
    """A check changes nothing."""
    root = build(tmp_path / "root", TREES[name])
    before = sorted(path.stat().st_mtime_ns for path in (tmp_path / "root").rglob("*"))
    done = run("setup", "--check", "--root", str(root.path), status=3)
    golden(f"setup-{name}.txt", done.stdout.replace(str(root.path), "ROOT"))
    assert sorted(path.stat().st_mtime_ns for path in root.path.rglob("*")) == before


@pytest.mark.parametrize("name", TREES)
def test_the_document(tmp_path: Path, run_json: RunJson, name: str) -> None:
    root = build(tmp_path / "root", TREES[name])
    found = run_json("setup", "--check", "--root", str(root.path), status=3)
    assert found["action"] == "check"
    assert found["changes"] == len(found["steps"]) > 0
    assert {step["state"] for step in found["steps"]} == {"to do"}


BOARDS = {
    "/boot/extlinux/extlinux.conf": "",
    "/boot/firmware/cmdline.txt": "",
    "/etc/default/u-boot": "run u-boot-update, then ",
    "/etc/default/flash-kernel": "run flash-kernel, then ",
}
"""What each file with a command line needs after a change."""
REFUSALS: list[tuple[str, dict[str, Any], int, str]] = [
    (
        "no boot loader",
        {**DEBIAN, "/boot/grub/grub.cfg": None},
        5,
        "whose configuration can be changed to reserve 64 KiB",
    ),
    *(
        (
            f"a board with {file}",
            {**ARM64, "/boot/grub/grub.cfg": None, "/etc/default/grub": None, file: ""},
            5,
            f"add crashkernel=64K to {file}, then {words}reboot; then run pykexec setup again",
        )
        for file, words in BOARDS.items()
    ),
    ("no generator", {**DEBIAN, "/usr/sbin/mkinitramfs": None}, 5, "neither initramfs-tools"),
    ("no image", {**DEBIAN, "/boot/vmlinuz-6.1.0-40-amd64": None}, 5, "not found"),
    (
        "no units",
        {path: text for path, text in DEBIAN.items() if "/usr/lib/systemd" not in path},
        5,
        "units of pykexec are not installed",
    ),
    (
        "no kexec",
        {**DEBIAN, "/proc/sys/kernel/kexec_load_disabled": "1\n"},
        5,
        "kexec_load_disabled",
    ),
    (
        "a huge file",
        {**DEBIAN, "/etc/pykexec.conf": bytes(2 << 20)},
        1,
        "larger than",
    ),
    (
        "in a container",
        {**DEBIAN, "/run/systemd/container": "lxc\n"},
        5,
        "runs in a container (lxc)",
    ),
    (
        "another init",
        {**DEBIAN, "/run/systemd/system/x": None},
        5,
        "systemd does not run on this machine",
    ),
    (
        "root without CAP_SYS_BOOT",
        {**DEBIAN, "/proc/self/status": "CapEff:\t0000000000200000\n"},
        5,
        "CAP_SYS_BOOT",
    ),
    (
        "a foreign journal",
        {**DEBIAN, "/var/lib/pykexec/setup.json": "{}"},
        1,
        "not a journal of pykexec",
    ),
]


@pytest.mark.parametrize(
    ("files", "status", "message"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS]
)
def test_a_machine_that_cannot_be_set_up(
    tmp_path: Path, run: Run, files: dict[str, Any], status: int, message: str
) -> None:
    root = build(tmp_path / "root", files)
    done = run("setup", "--check", "--root", str(root.path), status=status)
    assert message in done.stderr
    assert "hint: " in done.stderr


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("--root", "."), 2, "--root requires --check"),
        (("--check", "--yes"), 2, "--yes has no effect with --check"),
        (("--undo", "--panic-sysctls"), 2, "--panic-sysctls has no effect with --undo"),
        (("--check", "--root", "nowhere"), 1, "nowhere: not a folder"),
    ],
)
def test_words_that_contradict(run: Run, words: tuple[str, ...], status: int, message: str) -> None:
    assert message in run("setup", *words, status=status).stderr


def test_nothing_to_take_back(tmp_path: Path, run: Run) -> None:
    root = build(tmp_path / "root", DEBIAN)
    done = run("setup", "--undo", "--check", "--root", str(root.path))
    assert "nothing to undo" in done.stdout


def test_without_a_terminal_nothing_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The plan is shown first, but not beside a document."""
    root = build(tmp_path / "root", DEBIAN)
    machine, facts, plan = setup._look(Acting(root), False)
    report = SetupReport(machine, plan, setup._armed(machine, facts))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(UsageError, match="not a terminal"):
        setup._consent(report, Output(), yes=False)
    assert "run update-grub" in capsys.readouterr().out
    with pytest.raises(UsageError, match="does not ask"):
        setup._consent(report, Output(as_json=True), yes=False)
    setup._consent(report, Output(), yes=True)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NotPermitted):
        setup._consent(report, Output(), yes=True)


def test_two_runs_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one waits for a while, and then changes nothing; a check needs no lock."""
    root = build(tmp_path / "root", DEBIAN)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("pykexec.host.lock.WAIT", 0.0)
    with setup._alone(root, check=False):
        with pytest.raises(Busy), setup._alone(root, check=False):
            raise AssertionError("two have the lock")
        with setup._alone(root, check=True):
            pass
    with setup._alone(root, check=False):
        pass


def test_what_a_killed_run_has_started_keeps_the_next_one_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise an undo would come before the initrd that is still being made."""
    root = build(tmp_path / "root", DEBIAN)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("pykexec.host.lock.WAIT", 0.0)
    started = "sleep 60 > /dev/null 2>&1 & echo $! > pid"
    with setup._alone(root, check=False) as lock:
        run_command(("sh", "-c", f"cd {tmp_path}; {started}"), lock)
    with pytest.raises(Busy), setup._alone(root, check=False):
        raise AssertionError("its command still runs")
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    monkeypatch.setattr("pykexec.host.lock.WAIT", 9.0)
    with setup._alone(root, check=False):
        pass


def test_an_undo_without_a_record_is_refused(tmp_path: Path, run: Run) -> None:
    root = build(tmp_path / "root", DEBIAN)
    acting = Acting(root, lambda command: apply(root, command))
    acting.perform(setup._look(acting, False)[2].steps)
    (root.path / "var/lib/pykexec/setup.json").unlink()
    done = run("setup", "--undo", "--check", "--root", str(root.path), status=1)
    assert "/etc/default/grub.d/zz-pykexec.cfg, /etc/systemd/system/pykexec-crash" in done.stderr
    assert "whose record in /var/lib/pykexec is missing" in done.stderr


def shown(report: SetupReport | UndoReport) -> tuple[Any, str]:
    """Its document, which is validated, and its page."""
    return json.loads(codec.encode(report.document())), "\n".join(text(report.page(0)))


def test_what_was_done_and_taken_back(tmp_path: Path) -> None:
    root = build(tmp_path / "root", KDUMP_TOOLS)
    acting = Acting(root, lambda command: apply(root, command))
    _, _, plan = setup._look(acting, True)
    acting.perform(plan.steps)
    machine, facts, after = setup._look(acting, False)
    report = SetupReport(machine, after, setup._armed(machine, facts), plan.steps)
    document, page = shown(report)
    assert (document["action"], document["changes"], document["armed"]) == ("setup", 0, True)
    assert {step["state"] for step in document["steps"]} == {"done"}
    assert "set up and armed" in page
    assert report.complete

    record = acting.journal.read_or_new()
    steps = tuple(entry.step for entry in reversed(record.entries))
    document, page = shown(UndoReport("m", steps))
    assert document["changes"] == len(steps) == len(plan.steps)
    assert "restore /etc/pykexec.conf" in page
    assert "remove /etc/default/grub.d/zz-pykexec.cfg" in page
    assert "run systemctl start --no-block kdump-tools.service" in page
    (root.path / "etc/pykexec.conf").write_text("mine\n")
    left = acting.undo()
    document, page = shown(UndoReport("m", steps, left))
    assert [step["name"] for step in document["steps"] if step["state"] == "left"] == [
        "configuration"
    ]
    assert "/etc/pykexec.conf: changed after pykexec setup, and left as it is" in page
    assert "hint: remove /etc/pykexec.conf and run pykexec setup --undo again" in page
