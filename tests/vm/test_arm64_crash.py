"""A crash load on a real arm64 kernel, and what tools read of its dump."""

from __future__ import annotations

import pytest

from .lab import VM
from .machine import Result
from .product import (
    CAPTURE,
    PYKEXEC,
    SETTLED,
    arm64_window,
    assert_made_by_makedumpfile,
    assert_whole,
    document,
    site,
    text,
    verdict,
)

PATTERN_MIB = 192
APPEND = "console=ttyAMA0 panic=1 quiet"

FIRST = f"""
    python3 -m guest.pattern hold {PATTERN_MIB} /out/frames
    {PYKEXEC} load /boot/vmlinuz --initrd /boot/initrd2 --crash --backend kernel \\
        --append "{APPEND}" --json > /out/plan.json
    cat /sys/kernel/kexec_crash_loaded > /out/loaded
    {SETTLED}
    copyout /out
    host mark panic
    taskset 2 sh -c 'echo c > /proc/sysrq-trigger'
    sleep 60
"""

SECOND = f"""
    {CAPTURE}
    {PYKEXEC} vmcore dmesg /proc/vmcore > /out/own-dmesg
    copyout /out
"""


@pytest.fixture(scope="module")
def result(arm_vm: VM) -> Result:
    return arm_vm.run(
        FIRST,
        SECOND,
        append=f"crashkernel={arm64_window(arm_vm.kernel)}",
        mem_mib=1536,
        smp=2,
        python=True,
        second_python=True,
        site=site(),
        programs=["makedumpfile", "vmcore-dmesg"],
        timeout_s=400,
    ).expect(0)


def test_the_capture_kernel_runs_in_the_region(result: Result) -> None:
    plan = document(result, "first/plan.json")
    assert plan["image"] == "crash"
    assert text(result, "first/loaded") == "1"
    words = text(result, "second/cmdline").split()
    assert "cma=0" in words
    assert not any(word.startswith("elfcorehdr=") for word in words)


def test_the_dump_is_whole(result: Result) -> None:
    assert_whole(verdict(result), PATTERN_MIB * 256)


def test_other_tools_read_the_dump(arm_vm: VM, result: Result) -> None:
    log = text(result, "second/own-dmesg")
    assert "sysrq: Trigger a crash" in log
    assert text(result, "second/vmcore-dmesg") == log
    if assert_made_by_makedumpfile(result, arm_vm.kernel):
        assert text(result, "second/dmesg") == log


def test_pykexec_reads_the_dump(result: Result) -> None:
    info = document(result, "second/info.json")
    assert info["schema"] == "pykexec.vmcore/1", info
    assert len(info["cpus"]) == 2
