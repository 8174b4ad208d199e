"""The life of a loaded image on arm64: loaded, verified, replaced and unloaded many times, under
memory pressure and in the smallest reservation; and at last a panic, whose dump is whole."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import make_arm64_image

from .lab import VM
from .machine import Result
from .product import (
    ARM64_CAPTURE_APPEND,
    CAPTURE,
    PYKEXEC,
    SETTLED,
    arm64_region,
    arm64_window,
    assert_whole,
    document,
    site,
    text,
    verdict,
)

MIB = 1 << 20
PATTERN_MIB = 128
ROUNDS = 10
WINDOWS = 5
"""Memory of the guest: two windows are held while one image replaces another."""
LOAD = (
    f"{PYKEXEC} load /boot/vmlinuz --initrd /boot/initrd2 --backend kernel --crash-by-normal "
    f'--crash-size WINDOW --append "{ARM64_CAPTURE_APPEND}" --json'
)

WILD = """
from pykexec.backends.kernel.backend import KernelBackend
from pykexec.backends.kernel.calls import ThisKernel
backend = KernelBackend(ThisKernel())
stage = backend.staged.unmoved()
addr = backend.records.read().sums[0][0] + 0x1234
stage.write(addr, bytes([stage.read(addr, 1)[0] ^ 1]))
"""

FIRST = f"""
    status() {{
        {PYKEXEC} status --backend kernel --json > /out/status-$1.json 2> /out/status-$1.err &&
            echo 0 > /out/status-$1 || echo $? > /out/status-$1
    }}
    {PYKEXEC} doctor --json > /out/doctor.json || true
    dmesg > /out/dmesg
    python3 -m guest.stage_life {ROUNDS} PRESSURE > /out/life.json
    host mark "stage life"
    cat /sys/kernel/kexec_crash_size > /out/crash-size
    {LOAD} > /out/first-plan.json
    status loaded
    {PYKEXEC} unload --crash --backend kernel > /out/unload
    status unloaded
    {LOAD} > /out/second-plan.json
    python3 /wild.py
    status damaged
    {LOAD} --replace > /out/plan.json
    status replaced
    host mark "loaded"
    python3 -m guest.pattern hold {PATTERN_MIB} /out/frames
    {SETTLED}
    status filled
    copyout /out
    host mark "panic"
    taskset 2 sh -c 'echo c > /proc/sysrq-trigger'
    sleep 60
"""


@pytest.fixture(scope="module")
def result(arm_vm: VM) -> Result:
    page_flag = 2 << 1 if arm_vm.kernel.series == "16k" else 1 << 1
    small = make_arm64_image(flags=8 | page_flag, image_size=0x3378000, body=bytes(0x10000))
    window = arm64_window(arm_vm.kernel)
    memory = WINDOWS * int(window.rstrip("M"))
    return arm_vm.run(
        FIRST.replace("WINDOW", window).replace("PRESSURE", str(memory * 2 // 3)),
        CAPTURE,
        append="crashkernel=1M",
        mem_mib=memory,
        smp=2,
        python=True,
        second_python=True,
        site=site(),
        programs=["makedumpfile"],
        files={"/small-vmlinuz": small, "/wild.py": WILD.encode()},
        timeout_s=900,
    ).expect(0)


@pytest.fixture(scope="module")
def life(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = document(result, "first/life.json")
    return found


def test_many_loads_release_everything(life: dict[str, Any]) -> None:
    before, after = life["again"]["before"], life["again"]["after"]
    assert (after["total"], after["pool"]) == (before["total"], before["pool"]) == (0, 0)
    assert before["free"] - after["free"] < 16 * MIB


def test_too_little_memory_is_refused_and_releases_everything(life: dict[str, Any]) -> None:
    """No window is that large, or there is one, but no memory beside it for the image."""
    refusal = life["pressure"]
    assert refusal["status"] == 6
    assert refusal["code"] in ("window", "no-room-for-stage")
    assert refusal["pool"] == 0


def test_another_programs_crash_image_is_detected(life: dict[str, Any]) -> None:
    assert life["replaced"]["code"] == "stage-changed"


def test_the_smallest_reservation_is_enough(
    arm_vm: VM, result: Result, life: dict[str, Any]
) -> None:
    """The kernel accepts the loads in a region of this size, and the panic starts the last one."""
    limit = int(arm64_region(arm_vm.kernel).rstrip("K")) << 10
    assert int(text(result, "first/crash-size")) == life["smallest"]["need"] <= limit


STATUS = {"loaded": "0", "unloaded": "3", "damaged": "3", "replaced": "0", "filled": "0"}


@pytest.mark.parametrize("step", STATUS)
def test_status_tells_whether_the_image_is_armed(result: Result, step: str) -> None:
    assert text(result, f"first/status-{step}") == STATUS[step]


def test_doctor_shows_what_the_kernel_has_logged(result: Result) -> None:
    rows = {row["name"]: row for row in document(result, "first/doctor.json")["rows"]}
    assert "started at EL1" in text(result, "first/dmesg")
    assert "was started at EL1" in rows["exception level"]["evidence"]


def test_the_dump_is_whole_after_all_of_this(result: Result) -> None:
    assert_whole(verdict(result), PATTERN_MIB * 256)
