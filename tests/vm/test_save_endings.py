"""Captures that end in each of the ways that SAVE_FINALLY names, or by the guard, with
--all-kernels; and the dump of an initrd by dracut, encrypted by Debian's age."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pykexec.documents.codec import decode
from pykexec.documents.saved import SavedDump
from pykexec.dump.dump_check import verify_dump
from pykexec.dump.log import records
from pykexec.dump.reader import open_dump

from .debian import package_tree, sh
from .initramfs import Tree
from .lab import VM
from .machine import Qmp, Result
from .supplies import DEFAULT_SERIES, TOOLS_SUITE
from .system import debian_system, pykexec_initrd
from .test_save import CONFIGURATION, installed, panic
from .test_save_faults import dracut_initrd
from .test_service import UNITS

GUARD = "pykexec-save-guard.service"
STUCK = """[Unit]
DefaultDependencies=no
Before=sysinit.target
[Service]
Type=oneshot
ExecStart=/bin/sleep infinity
"""


@pytest.fixture(autouse=True)
def _only_with_all_kernels(request: pytest.FixtureRequest, vm: VM) -> None:
    if not request.config.getoption("--all-kernels") or vm.kernel.series != DEFAULT_SERIES:
        pytest.skip(f"an ending of the capture: with --all-kernels, of {DEFAULT_SERIES}")


@dataclass(frozen=True)
class Ended:
    """A run that ended in the capture system, and what was in /var/crash after it."""

    result: Result
    crash: Path

    @property
    def output(self) -> str:
        """The console of the capture system."""
        return self.result.console.rpartition("Linux version ")[2]

    @property
    def folder(self) -> Path:
        return max(self.crash.glob("pykexec-*"))

    @property
    def status(self) -> SavedDump:
        return decode(SavedDump, json.loads((self.folder / "status.json").read_text()))


def ended(
    vm: VM,
    folder: Path,
    tree: Tree,
    initrd: Path | None = None,
    on_console: Callable[[str, Qmp], object] | None = None,
) -> Ended:
    """Panic and capture, until the guest or `on_console` ends the run."""
    made = folder / "initrd"

    def prepare(root: Path) -> None:
        shutil.copy(initrd or pykexec_initrd(vm.kernel, root), made)

    disk = debian_system(vm.kernel).disk(folder, tree, prepare)
    result = panic(vm, made, disk, on_console=on_console)
    sh("debugfs", "-R", f"rdump /var/crash {folder}", disk, why="the disk cannot be read")
    disk.unlink()
    return Ended(result, folder / "crash")


def quitting(text: str) -> Callable[[str, Qmp], object]:
    """Ends the machine when the console has shown this after the dump was saved."""
    saved: list[str] = []

    def watch(line: str, qmp: Qmp) -> None:
        if "the capture is complete" in line:
            saved.append(line)
        if saved and text in line:
            qmp("quit")

    return watch


def test_dracut_and_age_and_poweroff(vm: VM, tmp_path: Path) -> None:
    age = package_tree(TOOLS_SUITE, "age", lambda _: False) / "usr/bin"
    key = tmp_path / "key"
    made = subprocess.run([age / "age-keygen", "-o", key], capture_output=True, text=True)
    recipient = made.stderr.partition("Public key: ")[2].strip()
    tree = installed(f"{CONFIGURATION}SAVE_FINALLY=poweroff\nSAVE_AGE_RECIPIENT={recipient}\n")
    tree.copy(age / "age", "/usr/bin/age")
    found = ended(vm, tmp_path, tree, dracut_initrd(vm.kernel, tmp_path))
    assert "dracut" in found.output
    assert "reboot: Power down" in found.output
    assert found.status.complete
    assert [step.problem for step in found.status.steps if step.problem] == []
    names = {path.name for path in found.folder.iterdir()}
    assert names == {
        "dmesg.txt.age", "report.txt.age", "report.json.age", "dump.age", "status.json"
    }  # fmt: skip
    opened = tmp_path / "opened"
    opened.mkdir()
    for name in names - {"status.json"}:
        target = opened / name.removesuffix(".age")
        words: list[str | Path] = [
            age / "age",
            "--decrypt",
            "-i",
            key,
            "-o",
            target,
            found.folder / name,
        ]
        subprocess.run(words, check=True)
    dump = open_dump(str(opened / "dump"))
    assert verify_dump(dump).whole
    log = b"".join(line + b"\n" for record in records(dump) for line in record.lines())
    assert (opened / "dmesg.txt").read_bytes() == log
    assert json.loads((opened / "report.json").read_text())["problems"] == []


def test_halt(vm: VM, tmp_path: Path) -> None:
    tree = installed(f"{CONFIGURATION}SAVE_FINALLY=halt\n")
    found = ended(vm, tmp_path, tree, on_console=quitting("reboot: System halted"))
    assert "reboot: System halted" in found.output
    assert found.status.complete


PROMPT = re.compile("(Press Enter|Give root password) for maintenance")
TYPED = ((5, "\n"), (20, "echo the answer is $((6 * 7)); exit\n"))
"""Seconds after the prompt, and what is typed: a terminal loses what comes while it is set up."""


@pytest.mark.parametrize("dracut", [False, True], ids=["initramfs-tools", "dracut"])
def test_a_shell(vm: VM, tmp_path: Path, dracut: bool) -> None:
    """It asks for Enter; the machine reboots when it ends."""
    prompts: list[str] = []

    def watch(line: str, qmp: Qmp) -> None:
        if PROMPT.search(line) and not prompts:
            prompts.append(line)
            for seconds, text in TYPED:
                threading.Timer(seconds, qmp.type, (text,)).start()

    tree = installed(f"{CONFIGURATION}SAVE_FINALLY=shell\n")
    initrd = dracut_initrd(vm.kernel, tmp_path) if dracut else None
    found = ended(vm, tmp_path, tree, initrd, on_console=watch)
    assert prompts
    assert ("dracut" in found.output) is dracut
    _, _, after = found.output.partition("opening a shell")
    assert "the answer is 42" in after
    assert "reboot: Restarting system" in after.partition("the answer is 42")[2]
    assert found.status.complete


def test_the_guard_reboots_a_system_that_hangs(vm: VM, tmp_path: Path) -> None:
    """Something that the service waits for never comes up. The guard waits ten minutes; here it
    waits ten seconds."""
    tree = installed()
    units = "/etc/systemd/system"
    text = (UNITS / GUARD).read_text()
    assert text.count("sleep 600") == 1
    tree.write(f"{units}/{GUARD}", text.replace("sleep 600", "sleep 10"))
    tree.write(f"{units}/stuck.service", STUCK)
    tree.link(f"{units}/sysinit.target.wants/stuck.service", f"{units}/stuck.service")
    found = ended(vm, tmp_path, tree)
    assert "the capture is complete" not in found.output
    assert "sysrq: Emergency Sync" in found.output
    assert "sysrq: Resetting" in found.output
