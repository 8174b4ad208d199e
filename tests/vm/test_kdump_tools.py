"""Debian's unchanged kdump-tools save the dump: their initrd is loaded for the panic, with 64 KiB
reserved; their service writes to /var/crash on the disk and reboots."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from .debian import sh
from .lab import VM
from .machine import NO_STATUS, Result
from .product import PYKEXEC, document, site
from .system import LABEL, debian_system

KDUMP_APPEND = (
    f"root=LABEL={LABEL} rw console=ttyS0 panic=5 "
    "reset_devices systemd.unit=kdump-tools-dump.service nr_cpus=1 irqpoll usbcore.nousb"
)
"""The root file system, and the words that kdump-tools append (KDUMP_CMDLINE_APPEND)."""

FIRST = f"""
    {PYKEXEC} load /boot/vmlinuz --initrd /boot/initrd-kdump --append "{KDUMP_APPEND}" \\
        --crash-by-normal --backend kernel --json > /out/plan.json
    copyout /out
    host mark panic
    taskset 2 sh -c 'echo c > /proc/sysrq-trigger'
    sleep 60
"""


@dataclass(frozen=True)
class Saved:
    """The run, and a copy of /var/crash after it."""

    result: Result
    crash: Path

    def one(self, name: str) -> Path:
        (found,) = self.crash.glob(f"*/{name}")
        return found


@pytest.fixture(scope="module")
def saved(vm: VM, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    system = debian_system(vm.kernel)
    folder = tmp_path_factory.mktemp("kdump-tools")
    disk = system.disk(folder)
    files: dict[str, bytes | str | Path] = {
        "/boot/vmlinuz": vm.kernel.image,
        "/boot/initrd-kdump": system.initrd,
    }
    result = vm.run(
        FIRST,
        append="crashkernel=64K",
        mem_mib=1024,
        smp=2,
        python=True,
        site=site(),
        files=files,
        disks=[disk],
        timeout_s=400,
    ).expect(NO_STATUS)
    sh("debugfs", "-R", f"rdump /var/crash {folder}", disk, why="the disk cannot be read")
    disk.unlink()
    return Saved(result, folder / "crash")


def test_a_dump_is_on_the_disk(saved: Saved) -> None:
    assert saved.one("dump.*").stat().st_size > 8 << 20
    assert "sysrq: Trigger a crash" in saved.one("dmesg.*").read_text()
    assert not list(saved.crash.glob("*/dump-incomplete"))


def test_the_machine_rebooted_by_itself(saved: Saved) -> None:
    output = saved.result.console
    assert "saved vmcore in /var/crash" in output
    assert "reboot: Restarting system" in output[output.index("saved vmcore") :]


def test_the_best_mode_was_taken(saved: Saved) -> None:
    plan = document(saved.result, "first/plan.json")
    assert plan["mode"] == "in-place"


def test_drgn_reads_the_compressed_dump(saved: Saved, vm: VM) -> None:
    drgn = pytest.importorskip("drgn")
    program = drgn.Program()
    try:
        program.set_core_dump(str(saved.one("dump.*")))
    except ValueError as error:
        pytest.skip(f"this drgn has no libkdumpfile: {error}")
    release = program["VMCOREINFO"].string_().decode().split("\n")[0]
    assert release == f"OSRELEASE={vm.kernel.release}"
