"""Panics in mode lent while the machine works: one on every change, and with --all-kernels ten, one
in a region made at run time, and reads in flight on a slow disk, which are lost without a wait."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .lab import VM
from .machine import NO_STATUS, TIMED_OUT, Qmp, Result
from .product import CAPTURE_APPEND, PYKEXEC, SETTLED, document, site, text
from .region_module import region_files
from .supplies import DEFAULT_SERIES

PATTERN_MIB = 200
PANICS = 10
DISK_BYTES = 32 << 20
ARMED_SECONDS = 30
HUNG_SECONDS = 90
SLOW = 4 << 20
"""Bytes a second: what is in flight takes six seconds."""
ARM = f"""
    {PYKEXEC} load /boot/vmlinuz --initrd /boot/initrd2 --backend kernel --crash-by-normal \\
        --keep kernel {{options}} --append "{CAPTURE_APPEND} no_timer_check" --json \\
        > /out/plan.json 2> /out/plan.err
    host mark "armed"
"""
TIMED = f"""
    ifconfig lo 127.0.0.1 up
    python3 -m guest.lent_load churn /dev/vdc
    load="{PYKEXEC} load /boot/vmlinuz --initrd /boot/initrd2 --backend kernel --crash-by-normal"
    timed() {{
        times > /out/times.before-$1
        host mark "begins $1"
        $load $2 --json > /out/$1.json
        host mark "armed $1"
        times > /out/times.after-$1
        {PYKEXEC} unload --crash --backend kernel > /dev/null
    }}
    timed plan "--keep kernel --dry-run"
    timed in-place "--keep all"
    timed lent "--keep kernel"
    timed again "--keep all"
    copyout /out
    host exit 0
"""
PANIC = """
    copyout /out
    host mark "panic"
    taskset 2 sh -c 'echo c > /proc/sysrq-trigger'
    sleep 120
"""
UNDER_LOAD = f"""
    ifconfig lo 127.0.0.1 up
    python3 -m guest.lent_load churn /dev/vdc
    {ARM.format(options="")}
    python3 -m guest.pattern hold {PATTERN_MIB} /out/frames
    {SETTLED}
    cat /proc/cmdline > /out/cmdline
    {PYKEXEC} status --backend kernel --json > /out/status.json
    {PANIC}
"""
READS = f"""
    {ARM}
    python3 -m guest.lent_load reads /dev/nvme0n1 /out/plan.json {{kind}} &
    while [ ! -f /tmp/reads-ready ]; do sleep 1; done
    {PANIC}
"""
SECOND = f"""
    copyin /first
    python3 -m guest.lent_frames /first/frames /first/plan.json /tmp/kept > /out/lent
    python3 -m guest.check_pattern /tmp/kept /proc/vmcore > /out/verdict.json
    {PYKEXEC} vmcore verify /proc/vmcore --plan /first/plan.json --json > /out/verified.json || true
    makedumpfile -l -d 31 /proc/vmcore /out/dump > /out/makedumpfile 2>&1
    copyout /out
"""
CAME_UP = """
    head -c 1048576 /proc/vmcore > /dev/null
    echo up > /out/up
    copyout /out
"""


@pytest.fixture(autouse=True)
def _not_on_every_change(request: pytest.FixtureRequest, vm: VM) -> None:
    number = request.node.callspec.params.get("number")
    if number != 0 and not request.config.getoption("--all-kernels"):
        pytest.skip("with --all-kernels")
    region = request.node.originalname == "test_in_a_region_of_the_module"
    if number != 0 and not region and vm.kernel.series != DEFAULT_SERIES:
        pytest.skip(f"on {DEFAULT_SERIES}")


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Bytes that no kernel survives in its text."""
    path = tmp_path / "disk"
    path.write_bytes(bytes(range(256)) * (DISK_BYTES // 256))
    return path


def assert_complete(result: Result) -> None:
    lent, found = int(text(result, "second/lent")), document(result, "second/verdict.json")
    assert document(result, "first/plan.json")["mode"] == "lent"
    staged = document(result, "first/status.json")["staged"]
    assert staged["problem"] is None, "kernel pages in the lent memory, among others"
    assert found["expected"] == PATTERN_MIB * 256 - lent
    assert found["intact"] == found["expected"]
    checks = document(result, "second/verified.json")["checks"]
    assert [check["rule"] for check in checks if check["ok"] is False] == []
    assert "The dumpfile is saved" in text(result, "second/makedumpfile")
    _, _, stub = result.console.partition("pykexec: checking\n")
    assert stub.startswith("pykexec: waiting 10 s for devices ..........\n")
    assert "pykexec: checking again\npykexec: starting\n" in stub


@pytest.mark.parametrize("number", range(PANICS))
def test_a_panic_under_load(vm: VM, disk: Path, number: int) -> None:
    result = vm.run(
        UNDER_LOAD,
        SECOND,
        append="crashkernel=64K",
        mem_mib=1536,
        smp=2,
        python=True,
        second_python=True,
        site=site(),
        programs=["makedumpfile"],
        disks=[disk],
        timeout_s=500,
    ).expect(0)
    assert_complete(result)


def test_in_a_region_of_the_module(vm: VM, disk: Path) -> None:
    result = vm.run(
        UNDER_LOAD,
        SECOND,
        mem_mib=1536,
        smp=2,
        python=True,
        second_python=True,
        site=site(),
        programs=["makedumpfile"],
        files=region_files(vm.kernel),
        disks=[disk],
        timeout_s=500,
    ).expect(0)
    assert_complete(result)
    assert "crashkernel" not in text(result, "first/cmdline")


@pytest.mark.parametrize("memory", [1024, 2048, 4096])
def test_it_is_armed_in_time_under_load(vm: VM, disk: Path, memory: int) -> None:
    """A busy host takes its time for everything: what counts is what it takes for another mode,
    right before and after. QEMU's TCG is about ten times slower than a processor, and most of the
    time is that of Python until the plan is made, as in the dry run."""
    result = vm.run(
        TIMED,
        "true",
        append="crashkernel=64K",
        mem_mib=memory,
        smp=2,
        python=True,
        site=site(),
        disks=[disk],
        timeout_s=400,
    ).expect(0)
    wall = {
        which: result.seconds_at(f"armed {which}") - result.seconds_at(f"begins {which}")
        for which in ("plan", "in-place", "lent", "again")
    }
    for which, seconds in wall.items():
        used = processor_seconds(result, f"after-{which}") - processor_seconds(
            result, f"before-{which}"
        )
        print(f"{memory} MiB, {which}: {seconds:.1f} s, of a processor {used:.1f} s")
    assert document(result, "first/in-place.json")["mode"] in ("in-place", "stub-swap")
    assert document(result, "first/lent.json")["mode"] == "lent"
    assert wall["lent"] < max(ARMED_SECONDS, 1.5 * max(wall["in-place"], wall["again"]))


def processor_seconds(result: Result, when: str) -> float:
    """Used by the children of the guest's shell (times)."""
    line = text(result, f"first/times.{when}").splitlines()[1]
    found = re.findall(r"(\d+)m([\d.]+)s", line)
    return sum(60 * int(minutes) + float(seconds) for minutes, seconds in found)


def end_after_an_early_panic(line: str, qmp: Qmp) -> None:
    """A capture kernel that panics before its clock runs never comes to the reset."""
    if "Rebooting in" in line:
        qmp("quit")


def run_with_reads(vm: VM, disk: Path, options: str, kind: str = "lent") -> Result:
    """From a slow NVMe disk: QEMU's virtio disk finishes all reads when it is stopped, this one
    goes on."""
    return vm.run(
        READS.format(options=options, kind=kind),
        CAME_UP,
        append="crashkernel=64K",
        mem_mib=1536,
        smp=2,
        python=True,
        site=site(),
        modules=["nvme"],
        arguments=(
            *("-drive", f"if=none,id=slow,format=raw,file={disk},throttling.bps-read={SLOW}"),
            *("-device", "nvme,drive=slow,serial=slow"),
        ),
        on_console=end_after_an_early_panic,
        timeout_s=300,
    )


def test_reads_in_flight_destroy_a_capture_kernel_that_does_not_wait(vm: VM, disk: Path) -> None:
    result = run_with_reads(vm, disk, "--settle 0")
    assert int(text(result, "first/reads")) > 100
    assert "pykexec: starting" in result.console, "it was not started: no proof of the wait"
    assert result.status in (NO_STATUS, TIMED_OUT), "the reads did not hit it: no proof of the wait"
    if result.status == TIMED_OUT:
        started = result.seconds_at_console("pykexec: starting")
        assert result.seconds - started > HUNG_SECONDS, "it had no time to come up"


def test_what_was_overwritten_after_the_checks_is_not_started(vm: VM, disk: Path) -> None:
    """The reads go to the places of kernel and initrd, and end after the exchange."""
    result = run_with_reads(vm, disk, "--settle 0", "loaded")
    assert result.status == NO_STATUS
    assert int(text(result, "first/reads")) > 100
    _, _, again = result.console.partition("pykexec: checking again")
    assert "does not match" in again
    assert "pykexec: kernel not started, reset in 1 s" in again
    assert "pykexec: starting" not in again


def test_the_wait_is_long_enough_for_reads_in_flight(vm: VM, disk: Path) -> None:
    result = run_with_reads(vm, disk, "").expect(0)
    assert text(result, "second/up") == "up"
