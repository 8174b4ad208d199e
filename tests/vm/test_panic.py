"""A real panic: `load --crash` into the usual 192 MiB, and crash by normal with no more reserved
than the stub needs. Two CPUs, sysrq-c on the second."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from pykexec.placement.panic_modes import SLEEPERS

from .lab import VM
from .machine import Result
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

PATTERN_MIB = 300


SETTLE_SECONDS = 4


@dataclass(frozen=True)
class Way:
    """One kind of load, and the guest to try it in."""

    options: str
    reserved: str
    mem_mib: int = 2048


WAYS = {
    "crash": Way("--crash", "208M"),
    "in-place": Way("--crash-by-normal --mode in-place --crash-size 208M", "64K"),
    "stub-swap": Way(
        f"--crash-by-normal --mode stub-swap --crash-size 208M --settle {SETTLE_SECONDS}", "64K"
    ),
}

FIRST = """
    python3 -m guest.pattern hold {mib} /out/frames
    host mark "pattern laid out"
    {before}
    {pykexec} load /boot/vmlinuz --initrd /boot/initrd2 --backend kernel {options} \\
        --append "{append}" --json > /out/plan.json 2> /out/plan.err
    host mark "loaded"
    {pykexec} status --backend kernel --json > /out/status.json
    cat /proc/sys/vm/nr_hugepages > /out/pool
    {settled}
    copyout /out
    host mark "panic"
    taskset 2 sh -c 'echo c > /proc/sysrq-trigger'
    sleep 60
"""

KEXEC_TOOLS = f"""
    kexec -p -d /boot/vmlinuz --initrd=/boot/initrd2 --append="{CAPTURE_APPEND}" \\
        > /out/kexec-tools.txt 2>&1
    kexec -p -u
"""


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def result(vm: VM, way: str) -> Result:
    chosen = WAYS[way]
    first = FIRST.format(
        mib=PATTERN_MIB,
        before=KEXEC_TOOLS if way == "crash" else "",
        pykexec=PYKEXEC,
        options=chosen.options,
        append=CAPTURE_APPEND,
        settled=SETTLED,
    )
    return vm.run(
        first,
        CAPTURE,
        append=f"crashkernel={chosen.reserved}",
        mem_mib=chosen.mem_mib,
        smp=2,
        python=True,
        second_python=True,
        site=site(),
        programs=["makedumpfile", "kexec", "vmcore-dmesg"],
        timeout_s=400,
    ).expect(0)


def test_the_dump_is_whole(result: Result) -> None:
    assert_whole(verdict(result), PATTERN_MIB * 256)


def test_the_stub_waits_before_it_moves_anything(result: Result, way: str) -> None:
    """By the clock of the host, on the console between the stub's lines."""
    if way != "stub-swap":
        assert "pykexec: waiting" not in result.console
        return
    plan, status = document(result, "first/plan.json"), document(result, "first/status.json")
    assert plan["settle"]["seconds"] == status["staged"]["settle"] == SETTLE_SECONDS
    output = f"pykexec: waiting {SETTLE_SECONDS} s for devices {'.' * SETTLE_SECONDS}"
    assert output in result.console
    before = result.seconds_at_console("pykexec: checking", first=True)
    waited = result.seconds_at_console("pykexec: waiting") - before
    assert SETTLE_SECONDS <= waited < SETTLE_SECONDS + 20, plan["settle"]


def test_the_registers_of_each_cpu_are_there(result: Result) -> None:
    info = document(result, "second/info.json")
    assert len(info["cpus"]) == 2
    assert all(int(cpu["ip"], 16) for cpu in info["cpus"])
    assert info["vmcoreinfo"]["PAGESIZE"] == "4096"
    assert "CRASHTIME" in info["vmcoreinfo"]


def test_the_panic_is_in_the_dump(result: Result) -> None:
    log = text(result, "second/dmesg")
    assert "sysrq: Trigger a crash" in log
    assert "Kernel panic - not syncing: sysrq triggered crash" in log
    assert "CPU: 1 " in log


def test_kexec_tools_find_the_log(result: Result) -> None:
    """They need the kernel's image by its own addresses, in a PT_LOAD of its own."""
    assert "sysrq: Trigger a crash" in text(result, "second/vmcore-dmesg")


def test_makedumpfile_filters_it(result: Result) -> None:
    assert "The dumpfile is saved" in text(result, "second/makedumpfile")


def test_drgn_reads_it(result: Result) -> None:
    drgn = pytest.importorskip("drgn")
    program = drgn.Program()
    program.set_core_dump(str(result.files / "second/dump"))
    assert program.flags & drgn.ProgramFlags.IS_LINUX_KERNEL
    assert b"CRASHTIME=" in program["VMCOREINFO"].string_()


def test_the_load_says_what_it_did(result: Result, way: str) -> None:
    plan = document(result, "first/plan.json")
    status = document(result, "first/status.json")
    assert status["crash"] == "loaded"
    if way == "crash":
        assert plan["mode"] is None
        assert status["staged"] is None
        return
    assert plan["mode"] == way
    assert SLEEPERS not in text(result, "first/plan.err"), (
        "where the stacks are is known, and spared"
    )
    assert [item["name"] for item in plan["segments"]] == ["purgatory"]
    assert status["staged"]["mode"] == way
    assert status["staged"]["problem"] is None
    assert int(text(result, "first/pool")) == status["staged"]["huge_pages"]


def test_places_are_those_of_kexec_tools(result: Result, way: str) -> None:
    if way != "crash":
        pytest.skip("only a load into a region can be compared")
    plan = document(result, "first/plan.json")
    ours = {item["name"]: item["mem"] for item in plan["segments"]}
    theirs = text(result, "first/kexec-tools.txt")
    assert f"Loaded 64bit kernel at {ours['kernel']}" in theirs
    assert f"Loaded initrd at {ours['initrd']}" in theirs
