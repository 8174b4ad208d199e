"""The units under a real systemd: armed at boot, armed anew when the stage was damaged, memory
came, a kernel was installed or a load had failed, disarmed on stop and then left alone; and the
panic that follows leaves a dump."""

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

SHARED = r"""#!/bin/sh -x
stty -F /dev/ttyS1 raw -echo
unit=pykexec-crash.service
memory() { udevadm trigger --settle --action=online /sys/devices/system/memory/memory0; }
check() { systemctl start pykexec-check.service; }
kernel() { /etc/kernel/postinst.d/zz-pykexec "$(uname -r)" "/boot/vmlinuz-$(uname -r)"; }
nothing() {
    systemctl is-active $unit
    cat /proc/sys/vm/nr_hugepages /sys/kernel/kexec_crash_loaded
}
"""

FIRST_BOOT = r"""
armed() { systemctl show -p InvocationID $unit; }
quiet() {
    for second in $(seq 300); do
        sleep 1
        systemctl list-jobs | grep -q pykexec || break
    done
}
again() {
    quiet
    [ "$(armed)" != "$before" ] && systemctl is-active $unit > /lab/$1
    host mark "$1"
}
systemctl is-active $unit pykexec-check.timer > /lab/at-boot
journalctl --no-pager --unit $unit
pykexec status --backend kernel --json > /lab/at-boot.json
host mark at-boot
before=$(armed)
check
quiet
[ "$(armed)" = "$before" ] && echo unchanged > /lab/good-is-kept
PYTHONPATH=/site python3 /lab/wild.py
check
again after-damage
before=$(armed)
loads() { journalctl --output cat --unit $unit | grep -c '^Starting '; }
was=$(loads)
for action in online offline; do udevadm trigger --subsystem-match=memory --action=$action; done
udevadm settle
again after-hotplug
ls -d /sys/devices/system/memory/memory* | wc -l > /lab/blocks
echo $(($(loads) - was)) > /lab/loads
host mark "$(cat /lab/loads) loads for $(cat /lab/blocks) blocks of memory"
before=$(armed)
kernel
again after-update
sed -i.kept 's|^KERNEL=.*|KERNEL=/nowhere|' /etc/default/pykexec
systemctl restart $unit
nothing > /lab/failed
mv /etc/default/pykexec.kept /etc/default/pykexec
systemctl disable $unit
memory
quiet
nothing > /lab/failed-and-disabled
systemctl enable $unit
before=$(armed)
memory
again after-failure
pykexec doctor --json > /lab/doctor.json
systemctl stop $unit
nothing > /lab/stopped
systemctl start --no-block $unit
for moment in $(seq 600); do
    [ -e /run/pykexec/stage.json ] && break
    sleep 0.1
done
systemctl stop $unit
nothing > /lab/stopped-half-way
check
memory
kernel
quiet
nothing > /lab/stays-stopped
systemctl start $unit
pykexec status --backend kernel --json > /lab/last.json
mv /lab/second-boot /lab/run
sync
host mark panic
echo c > /proc/sysrq-trigger
"""

SECOND_BOOT = """
systemctl is-active $unit > /lab/at-second-boot
systemctl --no-block poweroff
"""

SHUTDOWN = """
memory
kernel
check
sleep 12
nothing > /lab/shutdown
"""
SHUTDOWN_UNIT = """
[Unit]
Before=pykexec-crash.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
ExecStop=/lab/shutdown.sh
TimeoutStopSec=infinity
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
    tree.write("/lab/run", SHARED + FIRST_BOOT, 0o755)
    tree.write("/lab/second-boot", SHARED + SECOND_BOOT, 0o755)
    tree.write("/lab/shutdown.sh", SHARED + SHUTDOWN, 0o755)
    tree.write("/lab/wild.py", WILD)
    for name, unit in (("lab", LAB_UNIT), ("lab-shutdown", SHUTDOWN_UNIT)):
        tree.write(f"{units}/{name}.service", unit)
        tree.link(f"{units}/graphical.target.wants/{name}.service", f"{units}/{name}.service")
    return tree


@pytest.fixture(scope="module")
def lived(vm: VM, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Boot, the lab's script, panic, capture, reset; boot and power off. `files` gets /lab and
    /var/crash."""
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
    result = machine.run(folder, timeout_s=900).expect(NO_STATUS)
    machine.run(folder / "second boot", timeout_s=600).expect(NO_STATUS)
    for name in ("/lab", "/var/crash"):
        sh("debugfs", "-R", f"rdump {name} {folder}", disk, why="the disk cannot be read")
    disk.unlink()
    return result


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


def test_a_storm_of_events_arms_a_few_times(lived: Result) -> None:
    """Two events for each block of memory; once is enough, unless the machine stands still."""
    blocks = int(text(lived, "lab/blocks"))
    assert blocks > 8
    assert 1 <= int(text(lived, "lab/loads")) <= blocks // 2


@pytest.mark.parametrize("when", ["failed", "failed-and-disabled"])
def test_a_unit_that_failed_holds_nothing(lived: Result, when: str) -> None:
    """It is tried again (after-failure above), but not while it is disabled."""
    assert text(lived, f"lab/{when}").split() == ["failed", "0", "0"]


def test_doctor_knows_our_image(lived: Result) -> None:
    rows = {row["name"]: row for row in document(lived, "lab/doctor.json")["rows"]}
    crash = rows["crash image"]
    assert crash["level"] == "ok"
    assert crash["evidence"].startswith("ours: crash by normal, mode in-place, since 20")


NOTHING = ["inactive", "0", "0"]
"""The unit's state, huge pages, crash images."""


@pytest.mark.parametrize("when", ["stopped", "stopped-half-way"])
def test_stop_disarms_and_gives_everything_back(lived: Result, when: str) -> None:
    assert text(lived, f"lab/{when}").split() == NOTHING


def test_what_was_stopped_stays_so(lived: Result) -> None:
    """Whatever happens: a check, hotplug, a new kernel."""
    assert text(lived, "lab/stays-stopped").split() == NOTHING


def test_what_a_shutdown_stopped_stays_so(lived: Result) -> None:
    assert text(lived, "lab/at-second-boot") == "active"
    assert text(lived, "lab/shutdown").split() == NOTHING


def test_the_panic_leaves_a_dump(lived: Result) -> None:
    assert document(lived, "lab/last.json")["staged"]["problem"] is None
    (dump,) = lived.files.glob("crash/*/dump.*")
    assert dump.stat().st_size > 8 << 20
