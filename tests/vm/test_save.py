"""A crash from the panic to the next boot, with the units and the configuration that are shipped:
the capture kernel boots a Debian system on a disk into pykexec-save.target, which saves the log,
the report and the dump, removes the oldest dumps and reboots; the next boot reports it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pykexec.documents.codec import decode
from pykexec.documents.saved import SavedDump
from pykexec.dump.dump_check import verify_dump
from pykexec.dump.reader import open_dump

from .debian import sh
from .initramfs import GUEST, Tree
from .lab import VM, drives
from .machine import NO_STATUS, PC, Machine, Qmp, Result
from .product import PYKEXEC, site
from .python import compile_tree
from .supplies import Kernel, qemu
from .system import LABEL, debian_system, pykexec_initrd
from .test_service import UNITS

CAPTURE_APPEND = (
    f"root=LABEL={LABEL} ro console=ttyS0 panic=5 systemd.unit=pykexec-save.target "
    "reset_devices nr_cpus=1 irqpoll usbcore.nousb"
)
OLD = [f"pykexec-2020010{day}T000000Z" for day in range(1, 5)]
FOREIGN = "202001010000"
FIRST = f"""
    {PYKEXEC} load /boot/vmlinuz --initrd /boot/initrd --append "{{append}}" \\
        --crash-by-normal --backend kernel --json > /out/plan.json
    for name in modules kallsyms; do cat /proc/$name > /out/$name; done
    cat /proc/[0-9]*/stat > /out/stats
    copyout /out
    host mark panic
    taskset 2 sh -c 'echo c > /proc/sysrq-trigger'
    sleep 60
"""
NEXT_BOOT = r"""#!/bin/sh -x
stty -F /dev/ttyS1 raw -echo
systemctl is-active pykexec-saved.service > /lab/active
journalctl --no-pager --output cat --unit pykexec-saved.service > /lab/journal
systemctl restart pykexec-saved.service
journalctl --no-pager --output cat --unit pykexec-saved.service > /lab/journal-again
pykexec saved --json > /lab/saved.json
systemctl start pykexec-save.service 2> /lab/refused
cat /proc/uptime
sync
systemctl --no-block poweroff
"""
LAB_UNIT = """
[Unit]
After=pykexec-saved.service multi-user.target
[Service]
Type=oneshot
ExecStart=/lab/run
StandardOutput=journal+console
StandardError=journal+console
"""
HOOK = "#!/bin/sh\ncat > /lab/hook.json\n"
CONFIGURATION = "SAVE_KEEP=3\nSAVE_FREE=50M\nSAVE_HOOK=/lab/hook\n"


@dataclass(frozen=True)
class Saved:
    """The run; copies of /var/crash and /lab of the disk after it."""

    result: Result
    next_boot: Result
    crash: Path
    lab: Path

    @property
    def folder(self) -> Path:
        """Of the one dump of this crash."""
        (found,) = [p for p in self.crash.glob("pykexec-*") if p.name not in OLD]
        return found


def installed(configuration: str = CONFIGURATION) -> Tree:
    """pykexec, its units for saving, a configuration, and what was saved earlier."""
    tree = Tree()
    for folder in site():
        tree.copy(folder, f"/site/{folder.name}")
    compile_tree(tree)
    program = '#!/bin/sh\nPYTHONPATH=/site exec python3 -m pykexec "$@"\n'
    tree.write("/usr/bin/pykexec", program, 0o755)
    tree.write("/usr/bin/host", (GUEST / "host.sh").read_bytes(), 0o755)
    tree.write("/etc/control", f"{PC.control_device}\n")
    units = "/etc/systemd/system"
    for path in UNITS.glob("pykexec-save*"):
        tree.copy(path, f"{units}/{path.name}")
    (target,) = re.findall(
        r"^WantedBy=(.*)$", (UNITS / "pykexec-saved.service").read_text(), re.MULTILINE
    )
    tree.link(f"{units}/{target}.wants/pykexec-saved.service", f"{units}/pykexec-saved.service")
    tree.write(f"{units}/lab.service", LAB_UNIT)
    tree.link(f"{units}/graphical.target.wants/lab.service", f"{units}/lab.service")
    tree.write("/lab/run", NEXT_BOOT, 0o755)
    tree.write("/lab/hook", HOOK, 0o755)
    tree.write("/etc/pykexec.conf", (UNITS / "pykexec.conf").read_text() + configuration)
    for name in (*OLD, FOREIGN):
        tree.write(f"/var/crash/{name}/dump", "old")
    return tree


def crashed(vm: VM, folder: Path, tree: Tree) -> Saved:
    """Panic, capture and reset; then the system on the disk is booted until it powers off."""
    system = debian_system(vm.kernel)
    initrd = folder / "initrd"
    disk = system.disk(
        folder, tree, lambda root: shutil.copy(pykexec_initrd(vm.kernel, root), initrd)
    )
    result = panic(vm, initrd, disk)
    next_boot = boot(vm.kernel, system.initrd, disk, folder / "next")
    for name in ("/lab", "/var/crash"):
        sh("debugfs", "-R", f"rdump {name} {folder}", disk, why="the disk cannot be read")
    disk.unlink()
    return Saved(result, next_boot, folder / "crash", folder / "lab")


def panic(
    vm: VM,
    initrd: Path,
    disk: Path,
    append: str = CAPTURE_APPEND,
    on_console: Callable[[str, Qmp], object] | None = None,
) -> Result:
    """Load, panic, capture and reset; or until `on_console` ends the run."""
    files: dict[str, bytes | str | Path] = {
        "/boot/vmlinuz": vm.kernel.image,
        "/boot/initrd": initrd,
    }
    return vm.run(
        FIRST.replace("{append}", append),
        append="crashkernel=64K",
        mem_mib=1024,
        smp=2,
        python=True,
        site=site(),
        files=files,
        disks=[disk],
        timeout_s=600,
        on_console=on_console,
    ).expect(NO_STATUS)


def boot(kernel: Kernel, initrd: Path, disk: Path, folder: Path) -> Result:
    """The system itself, as it is after a reset."""
    machine = Machine(
        qemu=qemu(),
        kernel=kernel.image,
        initrd=initrd,
        append=f"root=LABEL={LABEL} rw",
        mem_mib=512,
        arguments=tuple(drives([disk])),
    )
    return machine.run(folder, timeout_s=300).expect(NO_STATUS)


@pytest.fixture(scope="module")
def saved(vm: VM, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    return crashed(vm, tmp_path_factory.mktemp("save"), installed())


def status(saved: Saved) -> SavedDump:
    return decode(SavedDump, json.loads((saved.folder / "status.json").read_text()))


def test_everything_was_saved(saved: Saved) -> None:
    found = status(saved)
    assert [step for step in found.steps if step.problem] == []
    assert found.problems == ()
    assert found.complete
    assert not saved.folder.name.endswith(".incomplete")
    names = {path.name for path in saved.folder.iterdir()}
    assert names == {"dmesg.txt", "report.txt", "report.json", "dump", "status.json"}


def test_the_machine_rebooted_by_itself(saved: Saved) -> None:
    shown = saved.result.console
    assert "the capture is complete" in shown
    assert "reboot: Restarting system" in shown[shown.index("the capture is complete") :]


def test_the_dump_is_whole(saved: Saved, vm: VM) -> None:
    dump = open_dump(str(saved.folder / "dump"))
    assert dump.info.release == vm.kernel.release
    assert verify_dump(dump).whole
    assert status(saved).dump
    assert (saved.folder / "dump").stat().st_size > 8 << 20


def test_log_and_report_tell_the_reason(saved: Saved, vm: VM) -> None:
    assert "sysrq: Trigger a crash" in (saved.folder / "dmesg.txt").read_text()
    report = json.loads((saved.folder / "report.json").read_text())
    assert report["problems"] == []
    assert report["system"]["release"] == vm.kernel.release
    assert report["panic"]["message"] == status(saved).reason == "sysrq triggered crash"
    assert report["panic"]["task"]["comm"] == "sh"
    known = (saved.result.files / "first/modules").read_text().splitlines()
    assert [row["name"] for row in report["modules"]] == [line.split()[0] for line in known]


def test_the_backtrace_leads_to_the_panic(saved: Saved) -> None:
    """By the registers that the kernel has left in its notes, without a guess."""
    report = json.loads((saved.folder / "report.json").read_text())
    (cpu,) = [cpu for cpu in report["cpus"] if cpu["cpu"] == report["panic"]["cpu"]]
    names = [frame["symbol"] for frame in cpu["backtrace"] if not frame["guess"]]
    assert {"panic", "sysrq_handle_crash", "ksys_write"} <= set(names)
    assert names[-1] == "entry_SYSCALL_64_after_hwframe"
    assert report["armed"]["reserved"]["size"] == 64 << 10
    assert (report["armed"]["loaded"], report["armed"]["segments"]) == (True, 1)
    plan = json.loads((saved.result.files / "first/plan.json").read_text())
    assert report["armed"]["mode"] == plan["mode"]
    assert report["armed"]["window"]["size"] >= 64 << 20


def test_log_and_report_come_before_the_dump(saved: Saved) -> None:
    """Which may fail."""
    steps = [step.name for step in status(saved).steps]
    assert steps[:5] == ["facts", "target", "log", "report", "dump by makedumpfile"]


def test_the_oldest_dumps_are_gone(saved: Saved) -> None:
    """Three are kept; what another program has saved is none of ours."""
    there = sorted(path.name for path in saved.crash.glob("pykexec-*"))
    assert there == sorted([*OLD[2:], saved.folder.name])
    assert (saved.crash / FOREIGN).is_dir()


def test_the_next_boot_reports_it_once(saved: Saved) -> None:
    assert (saved.lab / "active").read_text().strip() == "active"
    journal = (saved.lab / "journal").read_text()
    assert f"/var/crash/{saved.folder.name}" in journal
    assert "sysrq triggered crash" in journal
    again = (saved.lab / "journal-again").read_text()
    assert again.count(saved.folder.name) == journal.count(saved.folder.name)
    (dump,) = [
        item
        for item in json.loads((saved.lab / "hook.json").read_text())["dumps"]
        if item["name"] == saved.folder.name
    ]
    assert dump["complete"]


def test_all_dumps_are_listed(saved: Saved) -> None:
    listed = json.loads((saved.lab / "saved.json").read_text())
    assert listed["lost"] is None
    assert [item["name"] for item in listed["dumps"]] == [*OLD[2:], saved.folder.name]


def test_the_service_does_nothing_in_a_normal_system(saved: Saved) -> None:
    assert "Operation refused" in (saved.lab / "refused").read_text()
