"""The units under a real systemd, with the shipped configuration file: armed at boot; re-armed
after the stage was damaged, memory or a processor was added, a kernel was installed, another
program unloaded the image, or a load had failed; disarmed on stop and then left alone. Hostile
values in the configuration reach pykexec unchanged, and the following panic leaves a dump."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .debian import sh
from .initramfs import GUEST, Tree
from .lab import VM, drives
from .machine import NO_STATUS, Machine, Qmp, Result
from .product import document, site, text
from .python import compile_tree
from .supplies import Kernel, qemu
from .system import LABEL, debian_system

UNITS = Path(__file__).resolve().parents[2] / "systemd"
PYKEXEC = r"""#!/bin/sh
printf '%s\0' "$@" > "/lab/words-$1"
readlink /proc/self/ns/mnt > "/lab/mounts-$1"
PYTHONPATH=/site exec python3 -m pykexec "$@"
"""
"""It records its last arguments and their mount namespace."""
HOSTILE = (
    'a "b  c" it\'s $HOME ${KERNEL} $(touch /lab/ran) `touch /lab/ran` '
    "; touch /lab/ran & %v %% \\n x"
)
"""For the command line of the capture kernel; any shell would split or expand it."""
LINES = "one\ntwo; touch /lab/ran"
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


def quoted(value: str) -> str:
    """For systemd's EnvironmentFile=: in single quotes, with inner single quotes in double ones."""
    return "'" + value.replace("'", "'\"'\"'") + "'"


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
armed() { cat /run/pykexec/loaded.json /run/pykexec/second/loaded.json 2> /dev/null | cksum; }
busy() {
    [ -e /run/pykexec/changed ] || systemctl --quiet is-active pykexec-rearm.service ||
        systemctl list-jobs | grep -q pykexec
}
quiet() {
    for second in $(seq 300); do
        sleep 1
        busy || break
    done
}
again() {
    quiet
    [ "$(armed)" != "$before" ] && [ "$(cat /sys/kernel/kexec_crash_loaded)" = 1 ] &&
        systemctl is-active $unit > /lab/$1
    host mark "$1"
}
systemctl is-active $unit pykexec-check.timer pykexec-rearm.path > /lab/at-boot
readlink /proc/1/ns/mnt > /lab/mounts
uname -r > /lab/release
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
loads() { journalctl --output cat --unit $unit | grep -c '^Reloaded '; }
was=$(loads)
for action in online offline; do udevadm trigger --subsystem-match=memory --action=$action; done
udevadm settle
again after-hotplug
ls -d /sys/devices/system/memory/memory* | wc -l > /lab/blocks
echo $(($(loads) - was)) > /lab/loads
host mark "$(cat /lab/loads) loads for $(cat /lab/blocks) blocks of memory"
before=$(armed)
was=$(loads)
(while sleep 1; do memory; done) &
storm=$!
(while sleep 0.3; do cat /sys/kernel/kexec_crash_loaded; done > /lab/samples) &
sampler=$!
for second in $(seq 120); do
    sleep 1
    [ $(loads) -gt $was ] && break
done
[ "$(armed)" != "$before" ] && echo $second > /lab/seconds-in-a-storm
kill $storm $sampler
host mark "armed after $second s in a storm that goes on"
quiet
before=$(armed)
udevadm trigger --settle --action=add --subsystem-match=cpu
quiet
[ "$(armed)" = "$before" ] && echo unchanged > /lab/processors-at-boot-are-nothing-new
host mark processor
for second in $(seq 60); do
    [ -e /sys/devices/system/cpu/cpu2 ] && break
    sleep 1
done
udevadm settle
again after-processor
ls -d /sys/devices/system/cpu/cpu[0-9]* | wc -l > /lab/processors
before=$(armed)
echo 1 > /sys/devices/system/cpu/cpu2/online
again after-online
before=$(armed)
kernel
again after-update
before=$(armed)
/usr/sbin/kdump-config try-reload
cat /sys/kernel/kexec_crash_loaded > /lab/what-try-reload-left
memory
again after-try-reload
cp /etc/default/pykexec /etc/default/pykexec.kept
anew() {
    systemctl stop pykexec-rearm.service
    systemctl restart $unit
}
for value in words lines; do
    cp /lab/hostile-$value /etc/default/pykexec
    anew
    systemctl is-active $unit > /lab/with-$value
    cp /lab/words-load /lab/given-$value
done
host mark "hostile values"
cp /lab/hostile-initrd /etc/default/pykexec
anew
cp /etc/default/pykexec.kept /etc/default/pykexec
mv /var/lib/kdump/initrd.img-$(uname -r) /var/lib/kdump/kept
anew
journalctl --no-pager --output cat --unit $unit > /lab/journal
mv /var/lib/kdump/kept /var/lib/kdump/initrd.img-$(uname -r)
echo KERNEL=/nowhere >> /etc/default/pykexec
anew
nothing > /lab/failed
systemctl disable $unit
mv /etc/default/pykexec.kept /etc/default/pykexec
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
    """pykexec and its units in the places named in their comments, enabled."""
    tree = Tree()
    for folder in site():
        tree.copy(folder, f"/site/{folder.name}")
    compile_tree(tree)
    tree.write("/usr/bin/pykexec", PYKEXEC, 0o755)
    tree.write("/usr/bin/host", (GUEST / "host.sh").read_bytes(), 0o755)
    units = "/etc/systemd/system"
    for path in UNITS.glob("pykexec-*"):
        tree.copy(path, f"{units}/{path.name}")
    for unit in ("pykexec-crash.service", "pykexec-check.timer", "pykexec-rearm.path"):
        (target,) = re.findall(r"^WantedBy=(.*)$", (UNITS / unit).read_text(), re.MULTILINE)
        tree.link(f"{units}/{target}.wants/{unit}", f"{units}/{unit}")
    tree.copy(UNITS / "98-pykexec.rules", "/etc/udev/rules.d/98-pykexec.rules")
    tree.write("/etc/kernel/postinst.d/zz-pykexec", (UNITS / "zz-pykexec").read_bytes(), 0o755)
    tree.copy(UNITS / "pykexec.default", "/etc/default/pykexec")
    tree.write("/lab/hostile-words", f"APPEND={quoted(HOSTILE)}\n")
    tree.write("/lab/hostile-lines", f"APPEND={quoted(LINES)}\n")
    tree.write("/lab/hostile-initrd", f"INITRD={quoted(HOSTILE)}\n")
    tree.write("/lab/run", SHARED + FIRST_BOOT, 0o755)
    tree.write("/lab/second-boot", SHARED + SECOND_BOOT, 0o755)
    tree.write("/lab/shutdown.sh", SHARED + SHUTDOWN, 0o755)
    tree.write("/lab/wild.py", WILD)
    for name, unit in (("lab", LAB_UNIT), ("lab-shutdown", SHUTDOWN_UNIT)):
        tree.write(f"{units}/{name}.service", unit)
        tree.link(f"{units}/graphical.target.wants/{name}.service", f"{units}/{name}.service")
    return tree


def add_processor(mark: str, qmp: Qmp) -> None:
    """As an administrator of a hypervisor does, when the guest is ready. The guest brings it
    online: at the NMI of a panic, QEMU would start a processor that was never online at the reset
    vector."""
    if mark == "processor":
        where = {"socket-id": 2, "core-id": 0, "thread-id": 0}
        qmp("device_add", {"driver": "qemu64-x86_64-cpu", "id": "another", **where})


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
        arguments=(*drives([disk]), "-smp", "2,sockets=3,maxcpus=3"),
    )
    result = machine.run(folder, timeout_s=900, on_mark=add_processor).expect(NO_STATUS)
    machine.run(folder / "second boot", timeout_s=600).expect(NO_STATUS)
    for name in ("/lab", "/var/crash"):
        sh("debugfs", "-R", f"rdump {name} {folder}", disk, why="the disk cannot be read")
    disk.unlink()
    return result


def release(lived: Result) -> str:
    return text(lived, "lab/release")


def test_it_is_armed_at_boot(lived: Result) -> None:
    assert text(lived, "lab/at-boot").split() == ["active", "active", "active"]
    staged = document(lived, "lab/at-boot.json")["staged"]
    assert (staged["mode"], staged["problem"]) == ("in-place", None)


def test_a_check_leaves_what_is_good(lived: Result) -> None:
    assert text(lived, "lab/good-is-kept") == "unchanged"


@pytest.mark.parametrize(
    "event",
    [
        *("after-damage", "after-hotplug", "after-processor", "after-online", "after-update"),
        *("after-try-reload", "after-failure"),
    ],
)
def test_it_is_armed_anew(lived: Result, event: str) -> None:
    assert text(lived, f"lab/{event}") == "active"


def test_a_storm_of_events_arms_a_few_times(lived: Result) -> None:
    """Two events for each block of memory; re-arming once is enough, unless the machine stalls."""
    blocks = int(text(lived, "lab/blocks"))
    assert blocks > 8
    assert 1 <= int(text(lived, "lab/loads")) <= blocks // 2


def test_a_storm_that_goes_on_does_not_put_it_off(lived: Result) -> None:
    """An event per second; the wait is five seconds, and the load takes some more."""
    assert int(text(lived, "lab/seconds-in-a-storm")) <= 60


def test_it_stays_armed_while_it_is_armed_anew(lived: Result) -> None:
    samples = text(lived, "lab/samples").split()
    assert len(samples) > 10
    assert set(samples) == {"1"}


def test_a_processor_that_comes_is_no_processor_at_boot(lived: Result) -> None:
    assert text(lived, "lab/processors-at-boot-are-nothing-new") == "unchanged"
    assert text(lived, "lab/processors") == "3"


def test_another_program_unloads_it(lived: Result) -> None:
    """As README warns; it is re-armed at the next event (above) or check."""
    assert text(lived, "lab/what-try-reload-left") == "0"


@pytest.mark.parametrize(("name", "value"), [("words", HOSTILE), ("lines", LINES)])
def test_no_shell_reads_the_configuration(lived: Result, name: str, value: str) -> None:
    words = (lived.files / f"lab/given-{name}").read_text().split("\0")
    assert f"--append={value}" in words
    assert words[0] == "load"
    assert words[-3:-1] == ["--", f"/boot/vmlinuz-{release(lived)}"]
    assert not (lived.files / "lab/ran").exists()


@pytest.mark.parametrize("name", ["words", "lines"])
def test_hostile_values_are_armed(lived: Result, name: str) -> None:
    assert text(lived, f"lab/with-{name}") == "active"


def test_where_there_is_no_initrd_the_journal_says_what_makes_it(lived: Result) -> None:
    said = text(lived, "lab/journal")
    assert f"There is no initrd {HOSTILE}, which the capture kernel" in said
    assert (
        f"There is no initrd /var/lib/kdump/initrd.img-{release(lived)}, which the capture kernel"
        in said
    )
    assert f"\n  /etc/kernel/postinst.d/kdump-tools {release(lived)}\n" in said


@pytest.mark.parametrize("verb", ["load", "status", "unload"])
def test_no_command_has_a_mount_namespace_of_its_own(lived: Result, verb: str) -> None:
    assert text(lived, f"lab/mounts-{verb}") == text(lived, "lab/mounts")


@pytest.mark.parametrize("when", ["failed", "failed-and-disabled"])
def test_a_unit_that_failed_holds_nothing(lived: Result, when: str) -> None:
    """It is retried (after-failure above), but not while disabled."""
    assert text(lived, f"lab/{when}").split() == ["failed", "0", "0"]


def test_doctor_knows_our_image(lived: Result) -> None:
    rows = {row["name"]: row for row in document(lived, "lab/doctor.json")["rows"]}
    crash = rows["crash image"]
    assert crash["level"] == "ok"
    assert crash["evidence"].startswith(
        "loaded by pykexec: crash by normal, mode in-place, since 20"
    )


def test_doctor_names_the_rules_that_would_unload_it(lived: Result) -> None:
    rows = {row["name"]: row for row in document(lived, "lab/doctor.json")["rows"]}
    found = rows["udev rules of other programs"]
    assert found["level"] == "warn"
    assert found["evidence"].startswith("/usr/lib/udev/rules.d/50-kdump-tools.rules: ")
    assert rows["kdump services of other programs"]["level"] == "ok"


NOTHING = ["inactive", "0", "0"]
"""The unit's state, huge pages, crash images."""


@pytest.mark.parametrize("when", ["stopped", "stopped-half-way"])
def test_stop_disarms_and_gives_everything_back(lived: Result, when: str) -> None:
    assert text(lived, f"lab/{when}").split() == NOTHING


def test_what_was_stopped_stays_so(lived: Result) -> None:
    """Also after a check, hotplug, or a new kernel."""
    assert text(lived, "lab/stays-stopped").split() == NOTHING


def test_what_a_shutdown_stopped_stays_so(lived: Result) -> None:
    assert text(lived, "lab/at-second-boot") == "active"
    assert text(lived, "lab/shutdown").split() == NOTHING


def test_the_panic_leaves_a_dump(lived: Result) -> None:
    assert document(lived, "lab/last.json")["staged"]["problem"] is None
    (dump,) = lived.files.glob("crash/*/dump.*")
    assert dump.stat().st_size > 8 << 20
