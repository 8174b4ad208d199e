"""The units under a real systemd, with the shipped configuration file and without crashkernel=:
armed at boot, in a crash region that the kernel module makes; re-armed after the stage was damaged,
a processor was added, a kernel was installed, another program unloaded the image, or a load had
failed; armed once in mode lent, whose own changes cause events, and in another mode when a balloon
driver becomes active; disarmed on stop and then left alone; not armed where there is neither a
region nor the module. Hostile values in the configuration reach pykexec unchanged, and the
following panic leaves a dump. The second boot has crashkernel=."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from pykexec.backends.kernel.region_rules import TESTED, series

from .debian import Unavailable, sh
from .initramfs import GUEST, Tree
from .lab import VM, drives
from .machine import NO_STATUS, PC, Board, Machine, Qmp, Result
from .product import document, movable_blocks, site, text
from .python import compile_tree
from .region_module import INSTALLED, region_files
from .supplies import Kernel, qemu
from .system import LABEL, debian_system

UNITS = Path(__file__).resolve().parents[2] / "systemd"
ETC_UNITS = "/etc/systemd/system"
RESERVED = "crashkernel=64K"
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
start, size, _ = max(KernelBackend(ThisKernel()).records.read().sums, key=lambda item: item[1])
addr = start + size // 2
stage.write(addr, bytes([stage.read(addr, 1)[0] ^ 1]))
"""

BLOCK = """
import json
from pathlib import Path
memory = Path("/sys/devices/system/memory")
size = int((memory / "block_size_bytes").read_text(), 16)
journals = [json.loads(path.read_text()) for path in Path("/run/pykexec").rglob("stage.json")]
ours = {addr // size for journal in journals for addr, _ in journal["kept"]}
for block in memory.glob("memory*"):
    if int(block.name[6:]) in ours or "Movable" in (block / "valid_zones").read_text().split()[:1]:
        continue
    try:
        (block / "state").write_text("offline")
        (block / "state").write_text("online_movable")
    except OSError:
        continue
    print((block / "valid_zones").read_text())
    break
"""
"""One that has no huge page of ours, because the kernel would move it, and is not lent."""


def quoted(value: str) -> str:
    """For systemd's EnvironmentFile=: in single quotes, with inner single quotes in double ones."""
    return "'" + value.replace("'", "'\"'\"'") + "'"


SHARED = r"""#!/bin/sh -x
stty -F "$(cat /etc/control)" raw -echo
unit=pykexec-crash.service
memory() {
    for block in /sys/devices/system/memory/memory[0-9]*; do break; done
    udevadm trigger --settle --action=online $block
}
check() { systemctl start pykexec-check.service; }
kernel() { /etc/kernel/postinst.d/zz-pykexec "$(uname -r)" "/boot/vmlinuz-$(uname -r)"; }
nothing() {
    systemctl is-active $unit
    cat /proc/sys/vm/nr_hugepages /sys/kernel/kexec_crash_loaded
}
region() { pykexec region $1 --backend kernel --json; }
"""

WAITS = r"""
armed() { cat /run/pykexec/loaded.json /run/pykexec/second/loaded.json 2> /dev/null | cksum; }
busy() {
    [ -e /run/pykexec/event ] || [ -e /run/pykexec/changed ] ||
        systemctl --quiet is-active pykexec-rearm.service || systemctl list-jobs | grep -q pykexec
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
"""

AT_BOOT = r"""
systemctl is-active $unit pykexec-check.timer pykexec-rearm.path > /lab/at-boot
uname -r > /lab/release
journalctl --no-pager --unit $unit
pykexec status --backend kernel --json > /lab/at-boot.json
region show > /lab/region-at-boot.json
host mark at-boot
quiet
before=$(armed)
check
quiet
[ "$(armed)" = "$before" ] && echo unchanged > /lab/good-is-kept
PYTHONPATH=/site python3 /lab/wild.py
check
again after-damage
"""
"""What a boot has armed, a check of it, and one after it was damaged."""

PANIC = """
pykexec status --backend kernel --json > /lab/last.json
cp /var/lib/pykexec/armed /proc/sys/kernel/random/boot_id /lab
mv /lab/second-boot /lab/run
sync
host mark panic
echo c > /proc/sysrq-trigger
"""
"""The end of the first boot; the next one runs another script."""

DURING = r"""
readlink /proc/1/ns/mnt > /lab/mounts
loads() { journalctl --output cat --unit $unit | grep -c '^Reloaded '; }
kept() {
    quiet
    [ "$(armed)" = "$before" ] && [ "$(loads)" = "$was" ] && echo unchanged > /lab/$1
    host mark "$1"
}
before=$(armed)
was=$(loads)
for action in online offline; do udevadm trigger --subsystem-match=memory --action=$action; done
udevadm trigger --settle --action=add --subsystem-match=cpu
kept events-that-change-nothing
python3 /lab/block.py > /lab/zones
udevadm settle
kept a-block-made-movable
(while sleep 1; do memory; done) &
storm=$!
(while sleep 0.3; do cat /sys/kernel/kexec_crash_loaded; done > /lab/samples) &
sampler=$!
host mark processor
for second in $(seq 120); do
    sleep 1
    [ $(loads) -gt $was ] && break
done
[ "$(armed)" != "$before" ] && echo $second > /lab/seconds-in-a-storm
kill $storm $sampler
host mark "armed after $second s in a storm that goes on"
again after-processor
echo $(($(loads) - was)) > /lab/loads
ls -d /sys/devices/system/cpu/cpu[0-9]* | wc -l > /lab/processors
before=$(armed)
was=$(loads)
echo 1 > /sys/devices/system/cpu/cpu2/online
kept a-processor-online
before=$(armed)
kernel
again after-update
before=$(armed)
/usr/sbin/kdump-config try-reload
cat /sys/kernel/kexec_crash_loaded > /lab/what-try-reload-left
memory
again after-try-reload
cp /etc/pykexec.conf /etc/pykexec.conf.kept
anew() {
    systemctl stop pykexec-rearm.service
    systemctl restart $unit
}
for value in words lines; do
    cp /lab/hostile-$value /etc/pykexec.conf
    anew
    systemctl is-active $unit > /lab/with-$value
    cp /lab/words-load /lab/given-$value
done
host mark "hostile values"
cp /lab/hostile-initrd /etc/pykexec.conf
anew
cp /etc/pykexec.conf.kept /etc/pykexec.conf
mv /var/lib/kdump/initrd.img-$(uname -r) /var/lib/kdump/kept
anew
journalctl --no-pager --output cat --unit $unit > /lab/journal
mv /var/lib/kdump/kept /var/lib/kdump/initrd.img-$(uname -r)
echo KERNEL=/nowhere >> /etc/pykexec.conf
anew
nothing > /lab/failed
systemctl disable $unit
mv /etc/pykexec.conf.kept /etc/pykexec.conf
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
zones() { grep -H . /sys/devices/system/memory/memory*/valid_zones; }
for zone in $(grep -lx Movable /sys/devices/system/memory/memory*/valid_zones); do
    echo offline > ${zone%/*}/state
    echo online_kernel > ${zone%/*}/state
done
udevadm settle
quiet
checks() { journalctl --output cat --unit pykexec-rearm.service | grep -c '^Started '; }
zones > /lab/zones-before-lent
checks > /lab/checks-before-lent
systemctl start $unit
before=$(armed)
was=$(loads)
udevadm settle
kept lent-once
checks > /lab/checks-after-lent
zones > /lab/zones-while-lent
pykexec status --backend kernel --json > /lab/lent.json
before=$(armed)
modprobe virtio_balloon
for second in $(seq 300); do
    sleep 1
    [ "$(armed)" != "$before" ] && break
done
host mark "re-armed because of a balloon driver"
quiet
pykexec status --backend kernel --json > /lab/balloon.json
modprobe -r virtio_balloon
systemctl restart $unit
quiet
systemctl stop $unit
zones > /lab/zones-after-lent
nothing > /lab/stopped-lent
[ -e /var/lib/pykexec/armed ] || echo gone > /lab/armed-while-stopped
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
region show > /lab/region-kept.json
modules=/lib/modules/$(uname -r)/updates
if [ -d $modules ]; then
    region release > /lab/region-released.json
    mv $modules /lab/updates
    since=$(date +%s)
    systemctl start $unit
    systemctl stop pykexec-rearm.service
    journalctl --no-pager --output cat --unit $unit --since @$since > /lab/journal-without-region
    nothing > /lab/without-region
    cat /sys/kernel/kexec_loaded /sys/kernel/kexec_crash_size >> /lab/without-region
    mv /lab/updates $modules
    host mark "without a region"
fi
systemctl start $unit
region show > /lab/region-at-last.json
quiet
"""
FIRST_BOOT = AT_BOOT + DURING + PANIC

SECOND_BOOT = """
systemctl is-active $unit > /lab/at-second-boot
region show > /lab/region-at-second-boot.json
systemctl is-active pykexec-saved.service > /lab/saved
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


def module_of(kernel: Kernel) -> dict[str, Path]:
    """The kernel module where the service looks for it. Raises Unavailable."""
    if series(kernel.release) not in TESTED["x86_64"]:
        raise Unavailable(f"the module was not tested with {kernel.release}, and nobody forces it")
    return region_files(kernel)


def installed(module: dict[str, Path], board: Board, boots: tuple[str, str]) -> Tree:
    """pykexec, the kernel module, and its units in the places named in their comments, enabled; and
    the script for each of two boots."""
    tree = Tree()
    tree.put(module)
    for folder in site():
        tree.copy(folder, f"/site/{folder.name}")
    compile_tree(tree)
    tree.write("/usr/bin/pykexec", PYKEXEC, 0o755)
    tree.write("/usr/bin/host", (GUEST / "host.sh").read_bytes(), 0o755)
    tree.write("/etc/control", f"{board.control_device}\n")
    for path in UNITS.glob("pykexec-*"):
        tree.copy(path, f"{ETC_UNITS}/{path.name}")
    enabled = ("crash.service", "check.timer", "rearm.path", "saved.service")
    for unit in (f"pykexec-{name}" for name in enabled):
        (target,) = re.findall(r"^WantedBy=(.*)$", (UNITS / unit).read_text(), re.MULTILINE)
        tree.link(f"{ETC_UNITS}/{target}.wants/{unit}", f"{ETC_UNITS}/{unit}")
    tree.copy(UNITS / "98-pykexec.rules", "/etc/udev/rules.d/98-pykexec.rules")
    tree.write("/etc/kernel/postinst.d/zz-pykexec", (UNITS / "zz-pykexec").read_bytes(), 0o755)
    tree.copy(UNITS / "pykexec.conf", "/etc/pykexec.conf")
    tree.write("/lab/wild.py", WILD)
    for name, script in zip(("run", "second-boot"), boots, strict=True):
        tree.write(f"/lab/{name}", SHARED + script, 0o755)
    add_unit(tree, "lab", LAB_UNIT)
    return tree


def add_unit(tree: Tree, name: str, unit: str) -> None:
    """A service of the lab, which graphical.target starts."""
    tree.write(f"{ETC_UNITS}/{name}.service", unit)
    tree.link(f"{ETC_UNITS}/graphical.target.wants/{name}.service", f"{ETC_UNITS}/{name}.service")


def add_events(tree: Tree) -> None:
    """What the events of the first boot take: hostile values, and a service that ends late."""
    tree.write("/lab/hostile-words", f"APPEND={quoted(HOSTILE)}\n")
    tree.write("/lab/hostile-lines", f"APPEND={quoted(LINES)}\n")
    tree.write("/lab/hostile-initrd", f"INITRD={quoted(HOSTILE)}\n")
    tree.write("/lab/shutdown.sh", SHARED + SHUTDOWN, 0o755)
    tree.write("/lab/block.py", BLOCK)
    add_unit(tree, "lab-shutdown", SHUTDOWN_UNIT)


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
    /var/crash. Without the module, the first boot has a region reserved like the second."""
    system = debian_system(vm.kernel)
    folder = tmp_path_factory.mktemp("service")
    try:
        module = module_of(vm.kernel)
    except Unavailable as unavailable:
        warnings.warn(f"no region is made at run time: {unavailable.reason}", stacklevel=1)
        module = {}
    tree = installed(module, PC, (WAITS + FIRST_BOOT, SECOND_BOOT))
    add_events(tree)
    disk = system.disk(folder, tree)
    append = f"root=LABEL={LABEL} rw modprobe.blacklist=virtio_balloon"
    machine = Machine(
        qemu=qemu(),
        kernel=vm.kernel.image,
        initrd=system.initrd,
        append=append if module else f"{append} {RESERVED}",
        mem_mib=1536,
        smp=2,
        arguments=(
            *drives([disk]),
            *("-smp", "2,sockets=3,maxcpus=3", "-device", "virtio-balloon-pci"),
        ),
    )
    result = machine.run(folder, timeout_s=1800, on_mark=add_processor).expect(NO_STATUS)
    second = replace(machine, append=f"{append} {RESERVED}")
    second.run(folder / "second boot", timeout_s=600).expect(NO_STATUS)
    for name in ("/lab", "/var/crash"):
        sh("debugfs", "-R", f"rdump {name} {folder}", disk, why="the disk cannot be read")
    disk.unlink()
    return result


@pytest.fixture
def module(vm: VM) -> None:
    """Skips where there was no kernel module."""
    module_of(vm.kernel)


def release(lived: Result) -> str:
    return text(lived, "lab/release")


def test_it_is_armed_at_boot(lived: Result) -> None:
    assert text(lived, "lab/at-boot").split() == ["active", "active", "active"]
    staged = document(lived, "lab/at-boot.json")["staged"]
    assert (staged["mode"], staged["problem"]) == ("lent", None)


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize("when", ["at-boot", "kept", "at-last"])
def test_the_service_makes_the_region_and_a_stop_keeps_it(lived: Result, when: str) -> None:
    found = document(lived, f"lab/region-{when}.json")
    assert (found["origin"], found["size"]) == ("run time", found["need"])
    assert found["module"]["path"].endswith(INSTALLED)


@pytest.mark.usefixtures("module")
def test_without_a_region_and_the_module_it_refuses_and_names_both_ways(lived: Result) -> None:
    """It does not fall back to an image that no panic starts."""
    assert text(lived, "lab/without-region").split() == ["failed", "0", "0", "0", "0"]
    shown = text(lived, "lab/journal-without-region")
    assert "there is no crash region" in shown
    assert "pykexec region build" in shown
    assert "crashkernel=64K" in shown


def test_a_region_of_the_boot_is_used(lived: Result) -> None:
    found = document(lived, "lab/region-at-second-boot.json")
    assert (found["origin"], found["size"]) == ("boot", 64 << 10)


def test_a_check_leaves_what_is_good(lived: Result) -> None:
    assert text(lived, "lab/good-is-kept") == "unchanged"


@pytest.mark.parametrize(
    "event",
    [
        *("after-damage", "after-processor", "after-update", "after-try-reload"),
        "after-failure",
    ],
)
def test_it_is_re_armed(lived: Result, event: str) -> None:
    assert text(lived, f"lab/{event}") == "active"


@pytest.mark.parametrize(
    "event", ["events-that-change-nothing", "a-block-made-movable", "a-processor-online"]
)
def test_what_a_dump_has_anyway_arms_nothing(lived: Result, event: str) -> None:
    """Neither two events for each block of memory and one for each processor, nor a block that
    goes offline and comes back, as pykexec does it itself."""
    assert text(lived, f"lab/{event}") == "unchanged"
    assert text(lived, "lab/zones") == "Movable"


def test_a_storm_that_goes_on_does_not_put_it_off(lived: Result) -> None:
    """An event per second, one of them a new processor; the wait is five seconds, and the check and
    the load take some more."""
    assert int(text(lived, "lab/seconds-in-a-storm")) <= 90


def test_it_stays_armed_while_it_is_re_armed(lived: Result) -> None:
    samples = text(lived, "lab/samples").split()
    assert len(samples) > 10
    assert set(samples) == {"1"}


def test_a_processor_that_comes_arms_once(lived: Result) -> None:
    assert text(lived, "lab/processors") == "3"
    assert text(lived, "lab/loads") == "1"


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
    shown = text(lived, "lab/journal")
    assert f"There is no initrd {HOSTILE}, which the capture kernel" in shown
    assert (
        f"There is no initrd /var/lib/kdump/initrd.img-{release(lived)}, which the capture kernel"
        in shown
    )
    assert f"\n  /etc/kernel/postinst.d/kdump-tools {release(lived)}\n" in shown


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
    assert crash["evidence"].startswith("loaded by pykexec: crash by normal, mode lent, since 20")


def test_doctor_names_the_rules_that_would_unload_it(lived: Result) -> None:
    rows = {row["name"]: row for row in document(lived, "lab/doctor.json")["rows"]}
    found = rows["udev rules of other programs"]
    assert found["level"] == "warn"
    assert found["evidence"].startswith("/usr/lib/udev/rules.d/50-kdump-tools.rules: ")
    assert rows["kdump services of other programs"]["level"] == "ok"


NOTHING = ["inactive", "0", "0"]
"""The unit's state, huge pages, crash images."""


def test_mode_lent_arms_once(lived: Result) -> None:
    """Its own changes to memory blocks cause a check, which finds nothing."""
    staged = document(lived, "lab/lent.json")["staged"]
    assert (staged["mode"], staged["problem"]) == ("lent", None)
    assert int(text(lived, "lab/checks-after-lent")) > int(text(lived, "lab/checks-before-lent"))
    assert text(lived, "lab/lent-once") == "unchanged"
    assert movable_blocks(text(lived, "lab/zones-while-lent"))
    assert not movable_blocks(text(lived, "lab/zones-before-lent"))
    assert text(lived, "lab/zones-after-lent") == text(lived, "lab/zones-before-lent")


def test_a_balloon_driver_that_is_loaded_later_ends_it(lived: Result) -> None:
    """Before the host has taken any memory."""
    staged = document(lived, "lab/balloon.json")["staged"]
    assert (staged["mode"], staged["problem"]) == ("in-place", None)


@pytest.mark.parametrize("when", ["stopped", "stopped-lent", "stopped-half-way"])
def test_stop_disarms_and_gives_everything_back(lived: Result, when: str) -> None:
    assert text(lived, f"lab/{when}").split() == NOTHING


def test_what_was_stopped_stays_so(lived: Result) -> None:
    """Also after a check, hotplug, or a new kernel."""
    assert text(lived, "lab/stays-stopped").split() == NOTHING


def test_what_a_shutdown_stopped_stays_so(lived: Result) -> None:
    assert text(lived, "lab/at-second-boot") == "active"
    assert text(lived, "lab/shutdown").split() == NOTHING


def test_the_next_boot_knows_that_this_one_was_armed(lived: Result) -> None:
    """What kdump-tools have saved is no lost dump."""
    assert text(lived, "lab/armed") == text(lived, "lab/boot_id")
    assert text(lived, "lab/armed-while-stopped") == "gone"
    assert text(lived, "lab/saved") == "active"


def test_the_panic_leaves_a_dump(lived: Result) -> None:
    staged = document(lived, "lab/last.json")["staged"]
    assert (staged["mode"], staged["problem"]) == ("lent", None)
    (dump,) = lived.files.glob("crash/*/dump.*")
    assert dump.stat().st_size > 8 << 20
