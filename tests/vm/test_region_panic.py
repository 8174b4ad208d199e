"""A real panic of a kernel that was booted without crashkernel=: the region is made at run time,
and the dump is complete. Two CPUs."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from .guest.check_pattern import check
from .lab import VM
from .machine import Qmp, Result
from .product import (
    CAPTURE,
    CAPTURE_APPEND,
    PYKEXEC,
    SETTLED,
    assert_whole,
    document,
    site,
    text,
    verdict,
)
from .region_module import region_files

PATTERN_MIB = 200
BY_SYSRQ = "taskset 2 sh -c 'echo c > /proc/sysrq-trigger'"
BY_NMI = """
    echo 1 > /proc/sys/kernel/unknown_nmi_panic
    host mark nmi
"""
LOAD = f"""{PYKEXEC} load /boot/vmlinuz --initrd /boot/initrd2 --backend kernel \\
        --append "{CAPTURE_APPEND}" --json"""
BY_NORMAL = f"{LOAD} --crash-by-normal --crash-size 208M"
MAKE = f"{PYKEXEC} region make {{size}} --backend kernel --json {{force}}"
MAKE_WHOLE = f"{MAKE} > /out/made.json".replace("{size}", "192M")
"""Debian's own reservation. The capture kernel has no Python in it: the host judges the dump."""
RELEASE = f"{PYKEXEC} region release --backend kernel --json"
DISK_MIB = 2048
TO_DISK = """
    host mark "capture kernel up"
    cat /proc/iomem > /out/iomem
    dd if=/proc/vmcore of=/dev/vdc bs=1M 2> /out/dd
    host mark "dump on the disk"
    makedumpfile -F -l -d 31 /proc/vmcore 2> /out/makedumpfile > /dev/vdd
    copyout /out
"""


@dataclass(frozen=True)
class Way:
    """How the region is made and the image loaded, the kind of panic, and other steps."""

    make: str
    load: str
    panic: str = BY_SYSRQ
    capture: str = CAPTURE


REMOVE = """
    rmmod pykexec_region
    grep -q "Crash kernel" /proc/iomem"""
WAYS = {
    "in-place, the load makes the region, the module removed, by NMI": Way(
        "true",
        f"""{BY_NORMAL} > /out/plan.json 2> /out/plan.err
    grep -q "note: made a crash region of" /out/plan.err
    {PYKEXEC} region show --backend kernel --json > /out/made.json{REMOVE}""",
        BY_NMI,
    ),
    "stub-swap, in a region made again": Way(
        f"""{MAKE} > /out/first.json
    {RELEASE} > /out/released.json
    {MAKE} > /out/made.json""",
        f"{BY_NORMAL} --mode stub-swap > /out/plan.json 2> /out/plan.err",
    ),
    "kexec -p": Way(
        MAKE_WHOLE,
        f"""kexec -c -p /boot/vmlinuz --initrd=/boot/initrd2 --append="{CAPTURE_APPEND}" \\
        > /out/kexec-tools.txt 2>&1""",
        capture=TO_DISK,
    ),
    "kexec -s -p": Way(
        MAKE_WHOLE,
        f"""kexec -s -p /boot/vmlinuz --initrd=/boot/initrd2 --append="{CAPTURE_APPEND}" \\
        > /out/kexec-tools.txt 2>&1""",
        capture=TO_DISK,
    ),
    "load --crash": Way(
        MAKE_WHOLE,
        f"{LOAD} --crash > /out/plan.json 2> /out/plan.err",
        capture=TO_DISK,
    ),
    "in-place, the module removed, by sysrq": Way(
        f"{MAKE} > /out/made.json",
        f"{BY_NORMAL} --mode in-place > /out/plan.json 2> /out/plan.err{REMOVE}",
    ),
}
ON_EVERY_CHANGE = tuple(WAYS)[:3]

FIRST = """
    grep -q crashkernel /proc/cmdline && exit 9
    python3 -m guest.pattern hold {mib} /out/frames
    host mark "pattern laid out"
    {make} || {{ cat /out/*.json; dmesg | grep pykexec_region; exit 1; }}
    host mark "region made"
    {load} || {{ cat /out/plan.json /out/plan.err /out/kexec-tools.txt; exit 1; }}
    grep -q 1 /sys/kernel/kexec_crash_loaded
    host mark "loaded"
    {settled}
    copyout /out
    host mark "panic"
    {panic}
    sleep 60
"""


def by_nmi(output: str, qmp: Qmp) -> None:
    """An unexpected NMI on every CPU at once."""
    if output == "nmi":
        qmp.nmi()


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def result(vm: VM, way: str, request: pytest.FixtureRequest) -> Iterator[Result]:
    if way not in ON_EVERY_CHANGE and not request.config.getoption("--all-kernels"):
        pytest.skip("with --all-kernels")
    chosen = WAYS[way]
    force = "--force"  # the series of Debian's newest kernel may not have been tested yet
    first = FIRST.format(
        mib=PATTERN_MIB,
        make=chosen.make.format(size="", force=force),
        load=chosen.load,
        settled=SETTLED,
        panic=chosen.panic,
    )
    with ExitStack() as stack:
        disks = []
        if chosen.capture == TO_DISK:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pykexec-dump-")))
            disks = [folder / "vmcore", folder / "filtered"]
            for disk in disks:
                with open(disk, "wb") as file:
                    file.truncate(DISK_MIB << 20)
        found = vm.run(
            first,
            chosen.capture,
            mem_mib=1536,
            smp=2,
            python=True,
            second_python=chosen.capture == CAPTURE,
            site=site(),
            programs=["makedumpfile", "kexec"],
            files=region_files(vm.kernel),
            disks=disks,
            on_mark=by_nmi,
            timeout_s=400,
        ).expect(0)
        if disks:
            judge(disks[0], found.files)
        yield found


def judge(vmcore: Path, files: Path) -> None:
    """What CAPTURE does in the guest, on the host."""
    with open(vmcore, "rb") as core:
        pages = check((files / "first/frames").read_bytes(), core)
    (files / "second/verdict.json").write_text(json.dumps(dataclasses.asdict(pages)))
    info = [sys.executable, "-m", "pykexec", "vmcore", "info", str(vmcore), "--json"]
    with open(files / "second/info.json", "w") as file:
        subprocess.run(info, stdout=file, check=True)


def test_the_dump_is_whole(result: Result) -> None:
    assert_whole(verdict(result), PATTERN_MIB * 256)


def test_notes_and_vmcoreinfo_are_there(result: Result) -> None:
    info = document(result, "second/info.json")
    assert len(info["cpus"]) == 2
    assert "CRASHTIME" in info["vmcoreinfo"]


def test_the_region_was_made_at_run_time(result: Result) -> None:
    made = document(result, "first/made.json")
    assert made["origin"] == "run time"
    assert int(made["region"]["end"], 16) <= 4 << 30


def test_makedumpfile_filters_it(result: Result) -> None:
    assert "The dumpfile is saved" in text(result, "second/makedumpfile")
