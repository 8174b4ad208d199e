"""The units under a real systemd: armed at boot, armed anew when the stage was damaged, memory
came, a kernel was installed or a load had failed, disarmed on stop; and the panic that follows
leaves a dump."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .debian import sh
from .initramfs import GUEST, Tree
from .lab import VM, drives
from .machine import NO_STATUS, Machine, Result
from .product import document, site, text
from .python import compile_tree
from .supplies import Kernel, qemu
from .system import LABEL, debian_system

UNITS = Path(__file__).resolve().parents[2] / "systemd"
PYKEXEC = '#!/bin/sh\nPYTHONPATH=/site exec python3 -m pykexec "$@"\n'
LAB_UNIT = """
[Unit]
After=pykexec-crash.service multi-user.target
[Service]
Type=oneshot
ExecStart=/lab/run
StandardOutput=journal+console
StandardError=journal+console
"""

WILD = """
import json, sys
from pykexec.backends.kernel.backend import KernelBackend
from pykexec.backends.kernel.calls import ThisKernel
stage = KernelBackend(ThisKernel()).staged.unmoved()
addr = KernelBackend(ThisKernel()).records.read().sums[0][0] + 0x1234
stage.write(addr, bytes([stage.read(addr, 1)[0] ^ 1]))
"""

LAB = r"""#!/bin/sh -x
stty -F /dev/ttyS1 raw -echo
armed() { systemctl show -p InvocationID pykexec-crash.service; }
again() {
    for second in $(seq 120); do
        sleep 1
        [ "$(armed)" = "$before" ] && continue
        systemctl is-active --quiet pykexec-crash.service && break
    done
    [ "$(armed)" != "$before" ] && systemctl is-active pykexec-crash.service > /lab/$1
    host mark "$1"
}
systemctl is-active pykexec-crash.service pykexec-check.timer > /lab/at-boot
journalctl --no-pager --unit pykexec-crash.service
pykexec status --backend kernel --json > /lab/at-boot.json
host mark at-boot
before=$(armed)
systemctl start pykexec-check.service
[ "$(armed)" = "$before" ] && echo unchanged > /lab/good-is-kept
PYTHONPATH=/site python3 /lab/wild.py
systemctl start pykexec-check.service
again after-damage
before=$(armed)
udevadm trigger --action=online /sys/devices/system/memory/memory0
again after-hotplug
before=$(armed)
/etc/kernel/postinst.d/zz-pykexec "$(uname -r)" "/boot/vmlinuz-$(uname -r)"
again after-update
mv /etc/default/pykexec /etc/default/pykexec.kept
sed 's|^KERNEL=.*|KERNEL=/nowhere|' /etc/default/pykexec.kept > /etc/default/pykexec
systemctl restart pykexec-crash.service
systemctl is-failed pykexec-crash.service > /lab/failed
mv /etc/default/pykexec.kept /etc/default/pykexec
before=$(armed)
systemctl start pykexec-check.service
again after-failure
pykexec doctor --json > /lab/doctor.json
systemctl stop pykexec-crash.service
cat /proc/sys/vm/nr_hugepages /sys/kernel/kexec_crash_loaded > /lab/stopped
systemctl start pykexec-check.service
sleep 5
systemctl is-active pykexec-crash.service > /lab/stays-stopped
systemctl start pykexec-crash.service
pykexec status --backend kernel --json > /lab/last.json
sync
host mark panic
echo c > /proc/sysrq-trigger
"""


def installed(kernel: Kernel) -> Tree:
    """pykexec and its units in the places that their comments name, enabled."""
    tree = Tree()
    for folder in site():
        tree.copy(folder, f"/site/{folder.name}")
    compile_tree(tree)
    tree.write("/usr/bin/pykexec", PYKEXEC, 0o755)
    tree.write("/usr/bin/host", (GUEST / "host.sh").read_bytes(), 0o755)
    units = "/etc/systemd/system"
    for path in UNITS.glob("pykexec-*"):
        tree.copy(path, f"{units}/{path.name}")
    for unit in ("pykexec-crash.service", "pykexec-check.timer"):
        (target,) = re.findall(r"^WantedBy=(.*)$", (UNITS / unit).read_text(), re.MULTILINE)
        tree.link(f"{units}/{target}.wants/{unit}", f"{units}/{unit}")
    tree.copy(UNITS / "98-pykexec.rules", "/etc/udev/rules.d/98-pykexec.rules")
    tree.write("/etc/kernel/postinst.d/zz-pykexec", (UNITS / "zz-pykexec").read_bytes(), 0o755)
    defaults = (UNITS / "pykexec.default").read_text()
    defaults = defaults.replace("KERNEL=/vmlinuz", f"KERNEL=/boot/vmlinuz-{kernel.release}")
    defaults = defaults.replace("root=/dev/vda1 ro", f"root=LABEL={LABEL} rw console=ttyS0 panic=5")
    tree.write("/etc/default/pykexec", defaults)
    tree.write("/lab/run", LAB, 0o755)
    tree.write("/lab/wild.py", WILD)
    tree.write(f"{units}/lab.service", LAB_UNIT)
    tree.link(f"{units}/graphical.target.wants/lab.service", f"{units}/lab.service")
    return tree


@pytest.fixture(scope="module")
def lived(vm: VM, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Boot, the lab's script, panic, capture, reset; `files` gets /lab and /var/crash."""
    system = debian_system(vm.kernel)
    folder = tmp_path_factory.mktemp("service")
    disk = system.disk(folder, installed(vm.kernel))
    machine = Machine(
        qemu=qemu(),
        kernel=vm.kernel.image,
        initrd=system.initrd,
        append=f"root=LABEL={LABEL} rw crashkernel=64K",
        mem_mib=1536,
        smp=2,
        arguments=tuple(drives([disk])),
    )
    result = machine.run(folder, timeout_s=500)
    for name in ("/lab", "/var/crash"):
        sh("debugfs", "-R", f"rdump {name} {folder}", disk, why="the disk cannot be read")
    disk.unlink()
    return result.expect(NO_STATUS)


def test_it_is_armed_at_boot(lived: Result) -> None:
    assert text(lived, "lab/at-boot").split() == ["active", "active"]
    staged = document(lived, "lab/at-boot.json")["staged"]
    assert (staged["mode"], staged["problem"]) == ("in-place", None)


def test_a_check_leaves_what_is_good(lived: Result) -> None:
    assert text(lived, "lab/good-is-kept") == "unchanged"


@pytest.mark.parametrize(
    "event", ["after-damage", "after-hotplug", "after-update", "after-failure"]
)
def test_it_is_armed_anew(lived: Result, event: str) -> None:
    assert text(lived, f"lab/{event}") == "active"


def test_a_unit_that_failed_is_tried_again(lived: Result) -> None:
    """The load failed, and nothing was armed: after-failure above is the check's doing."""
    assert text(lived, "lab/failed") == "failed"


def test_doctor_knows_our_image(lived: Result) -> None:
    rows = {row["name"]: row for row in document(lived, "lab/doctor.json")["rows"]}
    crash = rows["crash image"]
    assert crash["level"] == "ok"
    assert crash["evidence"].startswith("ours: crash by normal, mode in-place, since 20")


def test_a_check_leaves_what_was_stopped(lived: Result) -> None:
    assert text(lived, "lab/stays-stopped") == "inactive"


def test_stop_disarms_and_gives_everything_back(lived: Result) -> None:
    assert text(lived, "lab/stopped").split() == ["0", "0"]


def test_the_panic_leaves_a_dump(lived: Result) -> None:
    assert document(lived, "lab/last.json")["staged"]["problem"] is None
    (dump,) = lived.files.glob("crash/*/dump.*")
    assert dump.stat().st_size > 8 << 20
