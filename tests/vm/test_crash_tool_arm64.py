"""The same as test_crash_tool for dumps of arm64, of every kind of load. Debian's crash for arm64
runs in QEMU's emulation of a process, which takes a minute of processor time."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .crash_tool import Answers, ask, only_in_its_lane
from .lab import VM
from .product import ARM64_CAPTURE_APPEND, PYKEXEC, VA_52, site
from .region_module import region_files
from .test_arm64_panic import WAYS, append, load
from .test_crash_tool import (
    test_all_processes_are_there,
    test_nothing_is_wrong_with_the_dump,
    test_our_backtrace_is_that_of_drgn,
    test_our_backtraces_are_part_of_those_of_crash,
    test_ps_has_every_task,
    test_ps_has_what_each_cpu_ran,
    test_the_backtrace_leads_to_the_panic,
    test_the_log_is_ours_byte_for_byte,
    test_the_modules_are_ours,
    test_the_registers_are_ours,
    test_the_system_is_the_one_that_panicked,
)

__all__ = [
    "test_all_processes_are_there",
    "test_nothing_is_wrong_with_the_dump",
    "test_our_backtrace_is_that_of_drgn",
    "test_our_backtraces_are_part_of_those_of_crash",
    "test_ps_has_every_task",
    "test_ps_has_what_each_cpu_ran",
    "test_the_backtrace_leads_to_the_panic",
    "test_the_log_is_ours_byte_for_byte",
    "test_the_modules_are_ours",
    "test_the_registers_are_ours",
    "test_the_system_is_the_one_that_panicked",
]


@dataclass(frozen=True)
class Saved:
    """A load, and how the capture kernel saves the dump: by makedumpfile, or as it is, so that
    crash reads our ELF core headers."""

    load: str
    append: str
    filtered: bool = True


def saved(arm_vm: VM, way: str) -> Saved:
    if way == "crash":
        start = f"{PYKEXEC} load /boot/vmlinuz --initrd /boot/initrd2 --backend kernel --crash"
        return Saved(start, "crashkernel=256M", filtered=False)
    if way == "region":
        return Saved(f"{load(arm_vm)} --mode in-place", "")
    chosen = WAYS[way]
    return Saved(f"{load(arm_vm)} {chosen.options}", append(arm_vm, chosen), way != "stub-swap")


FIRST = """
    {load} --append "{append}" > /out/load 2>&1 || {{ cat /out/load; exit 1; }}
    copyout /out
    taskset 2 sh -c 'echo c > /proc/sysrq-trigger'
    sleep 60
"""
FILTERED = """
    makedumpfile -l -d 31 /proc/vmcore /out/dump > /out/makedumpfile 2>&1
    copyout /out
"""
WHOLE = """
    stat -c %s /proc/vmcore > /out/size
    dd if=/proc/vmcore of=/dev/vdc bs=1M
    sync
    copyout /out
"""
DISK_BYTES = 4 << 30


@pytest.fixture(scope="module", params=("crash", *WAYS, "region"))
def answers(request: pytest.FixtureRequest, arm_vm: VM, tmp_path_factory: Any) -> Answers:
    """About the dump of a panic on the second CPU."""
    only_in_its_lane(request.config)
    way, kernel = request.param, arm_vm.kernel
    if kernel.series in VA_52:
        # NUMBER(PHYS_OFFSET) belongs to addresses of 52 bits also where the processor has 48 (its
        # arm64.c:arm64_VTOP), whatever wrote the dump.
        pytest.skip("crash up to 9.0.2 does not find the direct map of kernels with VA_BITS=52")
    chosen = saved(arm_vm, way)
    disk = arm_vm.folder / f"{way}.img"
    disk.touch()
    os.truncate(disk, DISK_BYTES)
    result = arm_vm.run(
        FIRST.format(load=chosen.load, append=ARM64_CAPTURE_APPEND),
        FILTERED if chosen.filtered else WHOLE,
        append=chosen.append,
        mem_mib=2048,
        smp=2,
        python=True,
        site=site(),
        programs=["makedumpfile"],
        files=region_files(kernel) if way == "region" else None,
        disks=[disk],
        timeout_s=600,
    ).expect(0)
    dump: Path = result.files / "second/dump"
    if not chosen.filtered:
        dump = disk
        os.truncate(dump, int((result.files / "second/size").read_text()))
    return ask(kernel, dump, tmp_path_factory.mktemp("answers"))
