"""The units on arm64, under a real systemd, without crashkernel=: armed at boot in a crash region
that the kernel module makes, which DKMS has built; in mode lent where the kernel command line makes
memory movable, in another mode where it does not; re-armed after the stage was damaged, and after a
kernel was installed; disarmed on stop. The panic leaves a dump, which kdump-tools save."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from .debian import sh
from .lab import VM, board_of, drives
from .machine import NO_STATUS, Machine, Result
from .product import VA_52, document, text
from .region_module import INSTALLED, built_modules
from .supplies import qemu
from .system import LABEL, debian_system
from .test_arm64_region import only_with_all_kernels
from .test_service import AT_BOOT, NOTHING, PANIC, SECOND_BOOT, WAITS, installed

DURING = r"""
before=$(armed)
kernel
again after-update
pykexec doctor --json > /lab/doctor.json
systemctl stop $unit
nothing > /lab/stopped
memory
check
kernel
quiet
nothing > /lab/stays-stopped
region show > /lab/region-kept.json
systemctl start $unit
quiet
dmesg > /lab/dmesg
"""
FIRST_BOOT = AT_BOOT + DURING + PANIC
BUILT = ("6.1", "6.12")
MORE = "pykexec status --backend kernel --json > /lab/at-second-boot.json\n"


@pytest.fixture(scope="module")
def lived(
    arm_vm: VM, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Result:
    """Boot, the lab's script, panic, capture, reset; boot and power off. `files` gets /lab and
    /var/crash."""
    only_with_all_kernels(pytestconfig)
    if arm_vm.kernel.series not in BUILT:
        pytest.skip(f"DKMS with an emulated compiler was tried for {' and '.join(BUILT)}")
    kernel, board = arm_vm.kernel, board_of(arm_vm.kernel)
    system = debian_system(kernel)
    folder = tmp_path_factory.mktemp("service")
    scripts = (WAITS + FIRST_BOOT, MORE + SECOND_BOOT)
    module = {f"/lib/modules/{kernel.release}/{INSTALLED}": built_modules(kernel).by_dkms}
    disk = system.disk(folder, installed(module, board, scripts))
    append = f"root=LABEL={LABEL} rw"
    machine = Machine(
        qemu=qemu(board.program, board.package),
        board=board,
        kernel=kernel.image,
        initrd=system.initrd,
        append=f"{append} movablecore=512M",
        mem_mib=1536,
        smp=2,
        arguments=tuple(drives([disk])),
    )
    result = machine.run(folder, timeout_s=1800).expect(NO_STATUS)
    second = replace(machine, append=append)
    second.run(folder / "second boot", timeout_s=900).expect(NO_STATUS)
    for name in ("/lab", "/var/crash"):
        sh("debugfs", "-R", f"rdump {name} {folder}", disk, why="the disk cannot be read")
    disk.unlink()
    return result


@pytest.mark.parametrize(
    ("when", "mode"), [("at-boot", "lent"), ("last", "lent"), ("at-second-boot", "in-place")]
)
def test_it_is_armed(lived: Result, when: str, mode: str) -> None:
    """Boot memory cannot be taken offline on arm64, and so not be made movable later."""
    staged = document(lived, f"lab/{when}.json")["staged"]
    assert (staged["mode"], staged["problem"]) == (mode, None)


def test_its_units_are_active(lived: Result) -> None:
    assert text(lived, "lab/at-boot").split() == ["active", "active", "active"]
    assert text(lived, "lab/at-second-boot") == "active"


@pytest.mark.parametrize("when", ["at-boot", "kept", "at-second-boot"])
def test_the_service_makes_the_region_and_a_stop_keeps_it(lived: Result, when: str) -> None:
    found = document(lived, f"lab/region-{when}.json")
    assert (found["origin"], found["size"]) == ("run time", found["need"])
    assert found["module"]["path"].endswith(INSTALLED)


def test_a_check_leaves_what_is_good(lived: Result) -> None:
    assert text(lived, "lab/good-is-kept") == "unchanged"


@pytest.mark.parametrize("event", ["after-damage", "after-update"])
def test_it_is_re_armed(lived: Result, event: str) -> None:
    assert text(lived, f"lab/{event}") == "active"


def test_doctor_knows_our_image(lived: Result) -> None:
    rows = {row["name"]: row for row in document(lived, "lab/doctor.json")["rows"]}
    assert rows["crash image"]["level"] == "ok"
    assert "crash by normal, mode lent" in rows["crash image"]["evidence"]
    assert "unknown_nmi_panic" not in rows


@pytest.mark.parametrize("when", ["stopped", "stays-stopped"])
def test_stop_disarms_and_gives_everything_back(lived: Result, when: str) -> None:
    """Also after a check, an event of memory, or a new kernel."""
    assert text(lived, f"lab/{when}").split() == NOTHING


def test_the_kernel_does_not_complain(lived: Result) -> None:
    log = text(lived, "lab/dmesg")
    assert "pykexec_region: crash region" in log
    assert "WARNING" not in log


def test_the_next_boot_knows_whether_there_is_a_dump(lived: Result, arm_vm: VM) -> None:
    """What kdump-tools have saved is no lost dump, unless it is empty: their makedumpfile fails
    where it cannot read dumps of the kernel, which they do not notice."""
    assert text(lived, "lab/armed") == text(lived, "lab/boot_id")
    (dump,) = lived.files.glob("crash/*/dump.*")
    if arm_vm.kernel.series in VA_52:
        assert (dump.stat().st_size, text(lived, "lab/saved")) == (0, "failed")
    else:
        assert dump.stat().st_size > 8 << 20
        assert text(lived, "lab/saved") == "active"


def test_region_build_installs_it_for_the_running_kernel(lived: Result, arm_vm: VM) -> None:
    """With the headers and the compiler of arm64."""
    report = json.loads(built_modules(arm_vm.kernel).report.read_text())
    assert report["path"].endswith("/updates/pykexec_region.ko")
    assert (report["release"], report["signed"]) == (text(lived, "lab/release"), False)
