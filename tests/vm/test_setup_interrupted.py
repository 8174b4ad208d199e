"""pykexec setup on a bare Debian 12 with full file systems, and killed at each step, as its undo is
(--all-kernels): the next run goes on each time, and at the end nothing is left."""

from __future__ import annotations

import pytest

from .lab import VM
from .test_setup import (
    BEFORE,
    INSTALL,
    OFF,
    UNDO,
    Lived,
    changed_contents,
    changed_files,
    lived,
)

FULL = r"""
full() {
    host mark "full $1"
    mkdir -p /lab/full $1
    mount -t tmpfs -o size=32m none /lab/full
    cp -a $1/. /lab/full
    mount --bind /lab/full $1
    cat /dev/zero > /lab/full/filler 2> /dev/null
    pykexec setup --yes > /lab/full-$2.txt 2>&1; echo $? >> /lab/full-$2.txt
    rm /lab/full/filler
    pykexec setup --undo --yes > /lab/undone-$2.txt 2>&1; echo $? >> /lab/undone-$2.txt
    umount $1 /lab/full
}
full /var/lib/pykexec state
full /etc etc
full /boot/grub boot
update-grub
rmdir /var/lib/pykexec
snapshot /lab/after-full
"""
"""The disk of /etc, of the menu, and of the record is full; all is undone when there is room."""
KILL = r"""
killed() {
    step=$1; shift
    host mark "kill at $step"
    file="/lab/killed-$step.txt"
    flock /run/pykexec-setup/lock true
    until grep -qs "^$step: " "$file"; do
        "$@" > "$file" 2>&1 &
        while kill -0 $! 2> /dev/null && ! grep -qs "^$step: " "$file"; do sleep 0.1; done
    done
    kill -9 $!
    wait $!; echo $? >> "$file"
}
"""
STEPS = ("boot", "initrd", "configuration", "units")
UNDONE = "/lab/undone-initrd.txt"
ALONE = "flock /run/pykexec-setup/lock true\n"
"""Wait for what a killed run has started."""
WHOLE = f"""{ALONE}pykexec setup --yes > /lab/setup.txt 2>&1; echo $? >> /lab/setup.txt
pykexec setup --check > /lab/check.txt 2>&1; echo $? >> /lab/check.txt
cp /boot/grub/grub.cfg /lab/menu
"""
AFTER = f"{ALONE}{UNDO} > /lab/undo.txt 2>&1; echo $? >> /lab/undo.txt\nsnapshot /lab/after\n"


def script() -> str:
    kills = [f"killed {step} pykexec setup --yes\n" for step in STEPS]
    undo = f"{ALONE}{UNDO} > {UNDONE} 2>&1; echo $? >> {UNDONE}\n"
    kills.insert(STEPS.index("initrd") + 1, undo)
    undone = [f"killed 'undo {step}' {UNDO}\n" for step in reversed(STEPS)]
    return "".join([INSTALL, BEFORE, FULL, KILL, *kills, WHOLE, *undone, AFTER, OFF])


@pytest.fixture(scope="module")
def life(request: pytest.FixtureRequest, vm: VM, tmp_path_factory: pytest.TempPathFactory) -> Lived:
    if not request.config.getoption("--all-kernels"):
        pytest.skip("a long boot: with --all-kernels")
    return lived(vm, tmp_path_factory.mktemp("setup"), "bare", (script(),))


def test_a_full_disk_leaves_nothing_half_made(life: Lived) -> None:
    for name in ("state", "etc", "boot"):
        printed, status = life.status(f"full-{name}.txt")
        why = "update-grub: exit status" if name == "boot" else "no space left on device"
        assert (status, why in printed) == (1, True), printed
        assert "run pykexec setup again" in printed
        printed, status = life.status(f"undone-{name}.txt")
        assert status == 0, printed
    assert changed_files(life, "after-full") == set()


def test_each_run_was_killed(life: Lived) -> None:
    """Once an undo follows, otherwise the next one goes on."""
    for step in STEPS:
        for name in (step, f"undo {step}"):
            assert life.status(f"killed-{name}.txt")[1] == 137, name
    printed, status = life.status("undone-initrd.txt")
    assert status == 0, printed


def test_a_whole_run_completes_it(life: Lived) -> None:
    for name in ("setup.txt", "check.txt"):
        printed, status = life.status(name)
        assert status == 0, printed
    assert "crashkernel=64K" in life.lab("menu")


def test_a_whole_undo_leaves_nothing(life: Lived) -> None:
    printed, status = life.status("undo.txt")
    assert status == 0, printed
    assert changed_files(life, "after") == set()
    assert changed_contents(life, "after") == set()
