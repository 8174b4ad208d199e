"""From a bare Debian 12 to an armed machine by one command, and back, with the Debian package of
pykexec: apt install, pykexec setup, a reboot with what is then in GRUB's menu, a panic, the dump
after the next reboot, an update of the kernel, and setup --undo, after which every file is as it
was before setup. And the same (--all-kernels) where kdump-tools have armed the machine, where the
package is removed, which leaves every file as it was before its installation; and with the single
file."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.test_build_deb import build
from tests.test_build_pyz import build as build_pyz
from tests.test_build_pyz import install_packages

from .debian import sh
from .initramfs import GUEST
from .installable import add_kdump_tools, installable
from .lab import VM, board_of, drives
from .machine import NO_STATUS, PC, Machine, Result
from .supplies import qemu
from .system import DISK_SIZE, LABEL

LAB_UNIT = """
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/lab/run
StandardOutput=journal+console
StandardError=journal+console
TimeoutStartSec=infinity
"""
SNAPSHOT = r"""
snapshot() {
    find / -xdev \( -path /lab -o -path /proc -o -path /sys -o -path /run -o -path /dev \
        -o -path /tmp -o -path /var/log -o -path /var/crash -o -path /var/tmp \) -prune \
        -o \( -type f -printf '%p file %m %U %G %s\n' \) \
        -o -printf '%p %y %m %U %G %l\n' | sort > $1
    find /etc /boot /usr/lib/systemd /usr/lib/udev /usr/lib/dracut /var/lib/pykexec -xdev -type f \
        -exec sha256sum {} + 2> /dev/null | sort -k 2 > $1.sums
    for name in $(ls /proc/sys/kernel | grep -x -e panic -e panic_on_oops -e unknown_nmi_panic); do
        echo "$name $(cat /proc/sys/kernel/$name)"
    done > $1.sysctls
}
"""
FIRST = r"""
cat /sys/kernel/kexec_crash_loaded > /lab/loaded-before
host mark setup
pykexec setup --check > /lab/check-before.txt 2>&1; echo $? >> /lab/check-before.txt
pykexec setup --yes > /lab/setup.txt 2>&1; echo $? >> /lab/setup.txt
host mark "set up"
pykexec setup --check > /lab/check-after.txt 2>&1; echo $? >> /lab/check-after.txt
cp /boot/grub/grub.cfg /lab/menu
cat /sys/kernel/kexec_crash_loaded > /lab/loaded-after
pykexec status --json > /lab/status-after.json
"""
PANIC = r"""
systemctl is-active pykexec-crash.service pykexec-check.timer pykexec-rearm.path > /lab/at-boot
pykexec status --json > /lab/armed.json
journalctl --no-pager --output cat --unit pykexec-crash.service
sync
host mark panic
echo c > /proc/sysrq-trigger
sleep 600
"""
LAST = r"""
pykexec status > /lab/status.txt
pykexec saved --json > /lab/saved.json
systemctl is-active pykexec-saved.service > /lab/reported
initrd=/var/lib/pykexec/initrd.img-$(uname -r)
armed() { cat /run/pykexec/loaded.json /run/pykexec/second/loaded.json 2> /dev/null | cksum; }
before=$(armed)
rm $initrd
cp -a /lib/modules/$(uname -r) /lib/modules/9.9.9-later
cp /boot/config-$(uname -r) /boot/config-9.9.9-later
host mark update
export PYKEXEC_MODULES=list
for version in 9.9.9-later $(uname -r); do
    run-parts --regex '^zz-pykexec$' --arg=$version /etc/kernel/postinst.d
done
ls /var/lib/pykexec > /lab/initrds
for second in $(seq 300); do
    sleep 1
    [ "$(armed)" = "$before" ] || [ -e /run/pykexec/changed ] ||
        systemctl --quiet is-active pykexec-rearm.service || break
done
journalctl --no-pager --output cat --unit pykexec-crash.service > /lab/journal-after-update
[ "$(armed)" != "$before" ] && cat /sys/kernel/kexec_crash_loaded > /lab/re-armed
pykexec status --json > /lab/after-update.json
run-parts --regex '^zz-pykexec$' --arg=9.9.9-later /etc/kernel/postrm.d
ls /var/lib/pykexec > /lab/initrds-after-removal
rm -rf /lib/modules/9.9.9-later /boot/*-9.9.9-later
host mark undo
{undo} > /lab/undo.txt 2>&1; echo $? >> /lab/undo.txt
snapshot /lab/after
cat /sys/kernel/kexec_crash_loaded > /lab/loaded-at-last
systemctl is-enabled kdump-tools.service > /lab/kdump-tools
"""
UNDO, PURGE = "pykexec setup --undo --yes", "apt-get purge -y pykexec"
INSTALL = "apt-get install -y /lab/pykexec.deb > /lab/apt.txt 2>&1; echo $? >> /lab/apt.txt\n"
BEFORE = "update-grub\nsnapshot /lab/before\n"
COPY = "install -D -m 755 /lab/pykexec.pyz /usr/local/bin/pykexec\n"
TIMER = "no_timer_check"  # the kernel's check of its timer fails on a busy host; then disks hang
OFF = "\nsync\nsystemctl --no-block poweroff\n"
HEAD = '#!/bin/sh\nstty -F "$(cat /etc/control)" raw -echo\n'
MAY_CHANGE = re.compile(
    r"/(var/(cache|lib/systemd|lib/dpkg|lib/apt|lib/kdump)|etc/(resolv|mtab|adjtime|machine-id)|root/|"
    r"usr/(lib|share)/python3|usr/share/mime|var/lib/python)"
)
"""What other programs write while the system runs."""


@dataclass(frozen=True)
class Lived:
    """The boots in order, and a copy of /lab and /var/crash after the last one."""

    boots: tuple[Result, ...]
    folder: Path

    def lab(self, name: str) -> str:
        return (self.folder / "lab" / name).read_text()

    def status(self, name: str) -> tuple[str, int]:
        """What a command printed, and its exit status."""
        text, _, status = self.lab(name).rstrip("\n").rpartition("\n")
        return text, int(status)


def menu_line(menu: str) -> str:
    """The kernel command line of GRUB's first entry."""
    found = re.search(r"(?m)^\s*linux\s+\S+ (.*)$", menu)
    assert found, menu
    return found[1].strip()


def stages_of(kind: str) -> tuple[str, ...]:
    """The script for each boot."""
    if kind == "kdump-tools":
        return BEFORE + INSTALL + FIRST + PANIC, LAST.replace("{undo}", PURGE) + OFF
    first = COPY + BEFORE if kind == "single-file" else INSTALL + BEFORE
    return first + FIRST + OFF, PANIC, LAST.replace("{undo}", UNDO) + OFF


def disk_of(vm: VM, folder: Path, kind: str, stages: tuple[str, ...]) -> Path:
    """The system, pykexec, and the script for each boot."""
    root, disk = folder / "root", folder / "disk.img"
    sh("cp", "-a", installable(vm.kernel), root, why="no room for a disk")
    if kind == "kdump-tools":
        add_kdump_tools(root, vm.kernel)
    defaults = root / "etc/default/grub"
    defaults.write_text(defaults.read_text().replace('"quiet"', '""'))  # the lab reads the console
    lab = root / "lab"
    lab.mkdir()
    if kind == "single-file":
        (folder / "packages").mkdir()
        build_pyz(lab / "pykexec.pyz", install_packages(folder / "packages"))
    else:
        shutil.copy(build(folder)["pykexec"], lab / "pykexec.deb")
    for number, text in enumerate(stages, 1):
        (lab / f"run-{number}").write_text(HEAD + SNAPSHOT + text)
    (lab / "run").write_text(
        "#!/bin/sh\nnumber=$(cat /lab/number)\necho $((number + 1)) > /lab/number\nsync\n"
        "exec sh /lab/run-$number\n"
    )
    (lab / "run").chmod(0o755)
    (lab / "number").write_text("1\n")
    (root / "usr/bin/host").write_bytes((GUEST / "host.sh").read_bytes())
    (root / "usr/bin/host").chmod(0o755)
    (root / "etc/control").write_text(f"{board_of(vm.kernel).control_device}\n")
    units = root / "etc/systemd/system"
    (units / "lab.service").write_text(LAB_UNIT)
    (units / "graphical.target.wants").mkdir(exist_ok=True)
    (units / "graphical.target.wants/lab.service").symlink_to("/etc/systemd/system/lab.service")
    disk.touch()
    with open(disk, "r+b") as file:
        file.truncate(2 * DISK_SIZE)
    sh("mke2fs", "-q", "-t", "ext4", "-L", LABEL, "-d", root, disk, why="no ext4 disk")
    shutil.rmtree(root)
    return disk


def lived(vm: VM, folder: Path, kind: str, stages: tuple[str, ...]) -> Lived:
    """Each boot after the first has the command line that GRUB's menu has then. With kdump-tools
    the panic follows setup at once, because there is a crash region already."""
    disk = disk_of(vm, folder, kind, stages)
    initrd = installable(vm.kernel) / f"boot/initrd.img-{vm.kernel.release}"
    append = f"root=LABEL={LABEL} ro" + (" crashkernel=384M-:128M" if kind == "kdump-tools" else "")
    board = board_of(vm.kernel)
    boots = []
    for number in range(len(stages)):
        machine = Machine(
            qemu=qemu(board.program, board.package),
            board=board,
            kernel=vm.kernel.image,
            initrd=initrd,
            append=f"{append} {TIMER}" if board is PC else append,
            mem_mib=1024,
            arguments=tuple(drives([disk])),
        )
        boots.append(machine.run(folder / f"boot-{number}", timeout_s=2400).expect(NO_STATUS))
        shutil.rmtree(folder / "lab", ignore_errors=True)
        sh("debugfs", "-R", f"rdump /lab {folder}", disk, why="the disk cannot be read")
        append = menu_line((folder / "lab/menu").read_text())
    sh("debugfs", "-R", f"rdump /var/crash {folder}", disk, why="the disk cannot be read")
    disk.unlink()
    return Lived(tuple(boots), folder)


@pytest.fixture(scope="module", params=["bare", "kdump-tools", "single-file"])
def life(request: pytest.FixtureRequest, vm: VM, tmp_path_factory: pytest.TempPathFactory) -> Lived:
    if request.param != "bare" and not request.config.getoption("--all-kernels"):
        pytest.skip("three more boots: with --all-kernels")
    stages = stages_of(request.param)
    return lived(vm, tmp_path_factory.mktemp("setup"), request.param, stages)


@pytest.fixture
def kdump(request: pytest.FixtureRequest) -> bool:
    return "kdump-tools" in request.node.name


@pytest.fixture
def single(request: pytest.FixtureRequest) -> bool:
    return "single-file" in request.node.name


def test_apt_installs_the_package(life: Lived, single: bool) -> None:
    if single:
        pytest.skip("the single file is copied")
    printed, status = life.status("apt.txt")
    assert status == 0, printed
    assert "Setting up pykexec" in printed


def changed_files(life: Lived, name: str) -> set[str]:
    """Those that differ from what they were before setup, in anything but their contents."""
    before, after = lines(life.lab("before")), lines(life.lab(name))
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    return {path for path in changed if not MAY_CHANGE.match(path)}


def changed_contents(life: Lived, name: str) -> set[str]:
    """The lines of sha256sum that differ, with what there was before, and what is there now."""
    before, after = (
        {line for line in life.lab(file).splitlines() if not MAY_CHANGE.match(line.split()[1])}
        for file in ("before.sums", f"{name}.sums")
    )
    return before ^ after


def test_a_check_shows_what_setup_does(life: Lived, kdump: bool) -> None:
    shown, status = life.status("check-before.txt")
    assert status == 3, shown
    done, status = life.status("setup.txt")
    assert status == 0, done
    assert shown in done
    assert ("systemctl stop kdump-tools.service" in shown) == kdump
    assert life.status("check-after.txt")[1] == 0
    assert life.lab("loaded-before").strip() == ("1" if kdump else "0")


def test_the_menu_of_grub_reserves_64_kib(life: Lived) -> None:
    assert re.findall(r"crashkernel=\S+", menu_line(life.lab("menu"))) == ["crashkernel=64K"]


def test_it_is_armed(life: Lived) -> None:
    assert life.lab("at-boot").split() == ["active", "active", "active"]
    staged = json.loads(life.lab("armed.json"))["staged"]
    assert staged["problem"] is None


def test_the_dump_is_there_after_the_reboot(life: Lived) -> None:
    saved = json.loads(life.lab("saved.json"))
    assert saved["lost"] is None
    (dump,) = saved["dumps"]
    assert dump["complete"], dump
    assert dump["status"]["reason"] == "sysrq triggered crash"
    assert dump["status"]["dump"]["writer"] == "makedumpfile"
    assert (life.folder / "crash" / dump["name"] / "dump").stat().st_size > 8 << 20
    assert life.lab("reported").strip() == "active"
    assert dump["folder"] in life.lab("status.txt")


def test_a_kernel_update_makes_the_initrd_and_re_arms(life: Lived, vm: VM) -> None:
    names = {f"initrd.img-{vm.kernel.release}", "initrd.img-9.9.9-later"}
    assert names <= set(life.lab("initrds").split())
    assert life.lab("re-armed").strip() == "1"
    staged = json.loads(life.lab("after-update.json"))["staged"]
    assert staged["problem"] is None
    assert "initrd.img-9.9.9-later" not in life.lab("initrds-after-removal")


def lines(text: str) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in text.splitlines())


def test_undo_leaves_no_file_and_no_setting_changed(life: Lived, kdump: bool) -> None:
    printed, status = life.status("undo.txt")
    assert status == 0, printed
    assert changed_files(life, "after") == set()
    assert changed_contents(life, "after") == set()
    before, after = (lines(life.lab(f"{name}.sysctls")) for name in ("before", "after"))
    if kdump:  # it sets this one when it loads, which takes a boot with its reservation
        before.pop("panic_on_oops")
        after.pop("panic_on_oops")
    assert before == after
    assert life.lab("loaded-at-last").strip() == "0"
    if kdump:
        assert life.lab("kdump-tools").strip() == "enabled"
