"""Captures in which something fails, with --all-kernels: the machine comes back up, and the next
boot knows what happened."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from .chroot import inside
from .debian import unpack_resolved
from .lab import VM
from .supplies import DEFAULT_SERIES, TOOLS_SUITE, Kernel
from .system import DISK_MODULES, add_kernel, debian_system, pykexec_initrd, settle_tools
from .test_save import CAPTURE_APPEND, CONFIGURATION, Saved, crashed, installed, panic, status

DRACUT = (
    *("base-files", "base-passwd", "bash", "coreutils", "dash", "debianutils", "e2fsprogs"),
    *("findutils", "grep", "gzip", "libc-bin", "mawk", "mount", "sed", "systemd-sysv", "udev"),
    "util-linux",
)
"""A system with dracut needs these, too."""
KILLED = "#!/bin/sh\necho out of memory >&2\nkill -9 $$\n"
ANOTHER_BOOT = "11111111-2222-3333-4444-555555555555\n"
PANICS = "[Service]\nExecStartPre=/bin/sh -c 'echo c > /proc/sysrq-trigger'\n"


@pytest.fixture(autouse=True)
def _only_with_all_kernels(request: pytest.FixtureRequest, vm: VM) -> None:
    if not request.config.getoption("--all-kernels") or vm.kernel.series != DEFAULT_SERIES:
        pytest.skip(f"a fault of the capture: with --all-kernels, of {DEFAULT_SERIES}")


def failed(saved: Saved) -> dict[str, str]:
    return {step.name: step.problem for step in status(saved).steps if step.problem}


def test_no_target_and_no_makedumpfile(vm: VM, tmp_path: Path) -> None:
    """A device that is not there, and a program that is killed: a copy in /var/crash."""
    tree = installed(f"{CONFIGURATION}SAVE_DEVICE=LABEL=nowhere\nSAVE_FOLDER=/dumps\n")
    tree.write("/usr/bin/makedumpfile", KILLED, 0o755)
    saved = crashed(vm, tmp_path, tree)
    assert "LABEL=nowhere: cannot be mounted" in failed(saved)["target"]
    assert "was killed by SIGKILL: out of memory" in failed(saved)["dump by makedumpfile"]
    found = status(saved)
    assert found.complete
    assert found.dump
    assert found.dump.writer == "copy"


def test_too_little_room(vm: VM, tmp_path: Path) -> None:
    """Log and report are saved alone, and old dumps have gone for nothing but the newest."""
    saved = crashed(vm, tmp_path, installed(f"{CONFIGURATION}SAVE_FREE=100G\n"))
    assert saved.folder.name.endswith(".incomplete")
    names = {path.name for path in saved.folder.iterdir()}
    assert names == {"dmesg.txt", "report.txt", "report.json", "status.json"}
    assert "MiB are free, but 102400 MiB are required" in failed(saved)["dump by makedumpfile"]
    assert "not complete: " in (saved.lab / "journal").read_text()


def test_a_panic_of_the_capture_kernel(vm: VM, tmp_path: Path) -> None:
    """It resets the machine, and the next boot reports the loss."""
    tree = installed()
    tree.write("/var/lib/pykexec/armed", ANOTHER_BOOT)
    tree.write("/etc/systemd/system/pykexec-save.service.d/panic.conf", PANICS)
    saved = crashed(vm, tmp_path, tree)
    assert (saved.lab / "active").read_text().strip() == "failed"
    assert "and no dump was saved" in (saved.lab / "journal").read_text()
    assert "and no dump was saved" in json.loads((saved.lab / "hook.json").read_text())["lost"]
    assert not list(saved.crash.glob("*.incomplete"))


def dracut_initrd(kernel: Kernel, folder: Path) -> Path:
    """Made by the script that is shipped, on a system without initramfs-tools. The drivers are
    given here, because by default dracut selects those for the machine that it runs on."""
    root = folder / "dracut"
    root.mkdir()
    unpack_resolved(TOOLS_SUITE, (*DRACUT, "dracut-core", "makedumpfile"), root)
    settle_tools(root)
    inside(root, "/sbin/ldconfig")
    add_kernel(kernel, root)
    names = " ".join(DISK_MODULES)
    (root / "etc/dracut.conf.d").mkdir(parents=True, exist_ok=True)
    (root / "etc/dracut.conf.d/disk.conf").write_text(
        f'add_drivers+=" {names} "\nfilesystems+=" ext4 "\n'
    )
    path = pykexec_initrd(kernel, root)
    inside(root, "/bin/sh", "-c", f"lsinitrd /{path.relative_to(root)} > /listed")
    shutil.copy(path, folder / "dracut.img")
    shutil.copy(root / "listed", folder / "listed")
    shutil.rmtree(root)
    return folder / "dracut.img"


def test_dracut_makes_the_initrd(vm: VM, tmp_path: Path) -> None:
    """With our module; test_save_endings boots it."""
    dracut_initrd(vm.kernel, tmp_path)
    listed = (tmp_path / "listed").read_text()
    for name in ("bin/pykexec-show-log", "bin/makedumpfile", "hooks/emergency/50-emergency.sh"):
        assert name in listed


def test_no_root_file_system(vm: VM, tmp_path: Path) -> None:
    """The initrd writes the end of the log to the console, and resets the machine."""
    initrd = tmp_path / "initrd"
    disk = debian_system(vm.kernel).disk(
        tmp_path, None, lambda root: shutil.copy(pykexec_initrd(vm.kernel, root), initrd)
    )
    result = panic(vm, initrd, disk, CAPTURE_APPEND.replace("root=LABEL=", "root=LABEL=no-"))
    _, _, output = result.console.partition("the end of the crashed kernel's log:")
    assert "Kernel panic - not syncing: sysrq triggered crash" in output
    assert "pykexec: rebooting" in output
