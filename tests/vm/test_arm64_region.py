"""A crash region that the kernel module makes on arm64, without crashkernel=: its life cycle, and a
panic whose dump is whole. Two CPUs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pytest

from .guest.region_life import CYCLES
from .lab import VM
from .machine import Result
from .product import (
    ARM64_CAPTURE_APPEND,
    PYKEXEC,
    SETTLED,
    document,
    site,
    text,
)
from .region_module import INSTALLED, region_files
from .test_arm64_panic import PATTERN_MIB, assert_whole_but_lent, capture, load, movable

MAKE = f"{PYKEXEC} region make --backend kernel --json --force"
RELEASE = f"{PYKEXEC} region release --backend kernel --json"


@dataclass(frozen=True)
class Way:
    """How the region is made, if not by the load, and how the image is loaded into it."""

    make: str
    options: str
    after: str = ""
    movable: bool = False
    """Whether some memory is movable, which takes a word on the kernel's command line."""


MADE_BY_THE_LOAD = f"""grep -q "note: made a crash region of" /out/plan.err
    {PYKEXEC} region show --backend kernel --json > /out/made.json
    rmmod pykexec_region
    grep -q "Crash kernel" /proc/iomem"""
WAYS = {
    "in-place": Way("true", "--mode in-place", MADE_BY_THE_LOAD),
    "lent": Way("true", "--keep kernel --settle 1", MADE_BY_THE_LOAD, movable=True),
    "stub-swap": Way(
        f"{MAKE} > /out/first.json\n    {RELEASE} > /out/released.json\n"
        f"    grep -q 'Crash kernel' /proc/iomem && exit 1\n    {MAKE} > /out/made.json",
        "--mode stub-swap",
    ),
}

FIRST = """
    grep -q crashkernel /proc/cmdline && exit 9
    python3 -m guest.pattern hold {mib} /out/frames
    host mark "pattern laid out"
    {make} || {{ cat /out/*.json; dmesg | tail -n 30; exit 1; }}
    cat /proc/iomem > /out/iomem
    host mark "region made"
    {load} {options} > /out/plan.json 2> /out/plan.err || {{
        cat /out/plan.json /out/plan.err; exit 1; }}
    grep -q 1 /sys/kernel/kexec_crash_loaded
    {after}
    host mark "loaded"
    {pykexec} status --backend kernel > /out/status
    {settled}
    dmesg > /out/dmesg
    copyout /out
    host mark "panic"
    taskset 2 sh -c 'echo c > /proc/sysrq-trigger'
    sleep 60
"""


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def only_with_all_kernels(config: pytest.Config) -> None:
    if not config.getoption("--all-kernels"):
        pytest.skip("with --all-kernels")


@pytest.fixture(scope="module")
def result(arm_vm: VM, way: str, pytestconfig: pytest.Config) -> Result:
    if way != "in-place":
        only_with_all_kernels(pytestconfig)
    chosen = WAYS[way]
    first = FIRST.format(
        mib=PATTERN_MIB,
        make=chosen.make,
        load=f'{load(arm_vm)} --append "{ARM64_CAPTURE_APPEND}" --json',
        options=chosen.options,
        after=chosen.after,
        pykexec=PYKEXEC,
        settled=SETTLED,
    )
    return arm_vm.run(
        first,
        capture(way),
        append=f"movablecore={movable(arm_vm.kernel)}" if chosen.movable else "",
        mem_mib=2048,
        smp=2,
        python=True,
        second_python=True,
        site=site(),
        programs=["makedumpfile"],
        files=region_files(arm_vm.kernel),
        timeout_s=600,
    ).expect(0)


def test_the_dump_is_whole(result: Result, way: str) -> None:
    assert document(result, "first/plan.json")["mode"] == way
    assert_whole_but_lent(result, way)


def test_the_region_was_made_at_run_time(result: Result) -> None:
    made = document(result, "first/made.json")
    assert made["origin"] == "run time"
    assert int(made["region"]["end"], 16) <= 4 << 30


def test_the_kernel_does_not_complain(result: Result) -> None:
    log = text(result, "first/dmesg")
    assert "pykexec_region: crash region" in log
    assert "WARNING" not in log


def test_notes_and_vmcoreinfo_are_there(result: Result) -> None:
    info = document(result, "second/info.json")
    assert len(info["cpus"]) == 2
    assert "CRASHTIME" in info["vmcoreinfo"]


@pytest.fixture(scope="module")
def life(arm_vm: VM, pytestconfig: pytest.Config) -> Any:
    """Debian's 6.1 for arm64 does not name its variables."""
    only_with_all_kernels(pytestconfig)
    if arm_vm.kernel.series == "16k":
        pytest.skip("the sizes of the life cycle are for pages of 4 KiB")
    result = arm_vm.run(
        f"""
        python3 -m guest.region_life /lib/modules/$(uname -r)/{INSTALLED} > /out/life.json
        copyout /out
        """,
        append="movablecore=512M",
        mem_mib=1024,
        smp=2,
        python=True,
        site=site(),
        files=region_files(arm_vm.kernel),
        timeout_s=900,
    ).expect(0)
    return document(result, "first/life.json")


def test_bad_input_is_refused(life: Any) -> None:
    wrong = {name: errno for name, errno in life["refused"].items() if errno == "EFAULT"}
    assert wrong.keys() == {
        "no addresses",
        "lock as region",
        "another resource as region",
        "region as lock",
        "inside the region",
        "user memory",
    }
    assert life["refused"]["inserted twice"] == "EEXIST"
    assert life["after refusals"]


def test_cycles_leave_memory_as_it_was(life: Any) -> None:
    assert life["cycles"] == {"results": {"ok": 2 * CYCLES}, "wrong": []}
    assert (life["whole"]["result"], life["whole"]["released"]) == ("ok", "ok")
    assert life["after cycles"]
    for before, after in life["left over"].values():
        assert before == after


def test_loads_at_the_same_time_meet_the_kernels_own_refusals_only(life: Any) -> None:
    race = life["race"]
    assert race["loads"]["ok"] > 10
    assert race["regions"]["ok"] > 3
    assert set(race["loads"]) <= {"ok", "unok", "EBUSY", "unEBUSY", "EADDRNOTAVAIL"}
    assert set(race["regions"]) <= {"ok", "unok", "left", "EBUSY", "unENOENT"}


def test_the_kernel_complains_about_nothing(life: Any) -> None:
    assert not [line for line in life["log"] if not re.search("pykexec_region: ", line)]
