"""Mode lent on a real kernel: the window is memory that applications use until the panic. Two
CPUs, KASLR on."""

from __future__ import annotations

import pytest

from pykexec.abi.hugetlb import HUGE_PAGE_SIZE

from .lab import VM
from .machine import Result
from .product import CAPTURE_APPEND, PYKEXEC, SETTLED, document, movable_blocks, site, text

PATTERN_MIB = 300
APPEND = f"{CAPTURE_APPEND} no_timer_check"
"""On a busy host the timer check of the capture kernel can fail."""
MORE_THAN_LOADED = 6 << 20
"""Bytes that may be held beside what is loaded: the rest of the huge pages that hold it, one for
the low memory and one for the headers."""
ARMED_SECONDS = 30

LOOK = """
look() {
    cat /proc/meminfo > /out/meminfo.$1
    cat /proc/sys/vm/nr_hugepages > /out/pool.$1
    grep -H . /sys/devices/system/memory/memory*/valid_zones > /out/zones.$1
}
"""

FIRST = f"""
    {LOOK}
    load="{PYKEXEC} load /boot/vmlinuz --initrd /boot/initrd2 --backend kernel --crash-by-normal"
    look before
    $load --keep kernel --append "{APPEND}" --json > /out/once.json
    look once
    {PYKEXEC} unload --crash --backend kernel --json > /out/unload.json
    look after
    head -c 1500000 /dev/urandom > /tmp/small
    {PYKEXEC} load /boot/vmlinuz --initrd /tmp/small --no-initrd-check --backend kernel \
        --crash-by-normal --keep kernel --json > /out/small.json
    look small
    {PYKEXEC} unload --crash --backend kernel > /dev/null
    host mark "begins in-place"
    $load --keep all --append "{APPEND}" --json > /out/in-place.json
    host mark "armed in-place"
    {PYKEXEC} unload --crash --backend kernel > /dev/null
    host mark "begins to arm"
    $load --keep kernel --append "{APPEND}" --json > /out/plan.json 2> /out/plan.err
    host mark "armed lent"
    look armed
    python3 -m guest.pattern hold {PATTERN_MIB} /out/frames
    {SETTLED}
    {PYKEXEC} status --backend kernel --json > /out/status.json
    copyout /out
    host mark "panic"
    taskset 2 sh -c 'echo c > /proc/sysrq-trigger'
    sleep 60
"""

SECOND = f"""
    copyin /first
    host mark "capture kernel up"
    cat /proc/cmdline > /out/cmdline
    python3 -m guest.lent_frames /first/frames /first/plan.json /tmp/kept > /out/lent
    python3 -m guest.check_pattern /tmp/kept /proc/vmcore > /out/verdict.json
    {PYKEXEC} vmcore verify /proc/vmcore --plan /first/plan.json --json > /out/verified.json || true
    makedumpfile -l -d 31 /proc/vmcore /out/dump > /out/makedumpfile 2>&1 || true
    makedumpfile --dump-dmesg /proc/vmcore /out/dmesg > /dev/null 2>&1 || true
    copyout /out
"""


@pytest.fixture(scope="module")
def result(vm: VM) -> Result:
    return vm.run(
        FIRST,
        SECOND,
        append="crashkernel=64K",
        mem_mib=1536,
        smp=2,
        python=True,
        second_python=True,
        site=site(),
        programs=["makedumpfile"],
        timeout_s=400,
    ).expect(0)


def available(result: Result, when: str) -> int:
    """MemAvailable in bytes."""
    lines = text(result, f"first/meminfo.{when}").splitlines()
    (line,) = (line for line in lines if line.startswith("MemAvailable:"))
    return int(line.split()[1]) << 10


def loaded_bytes(result: Result, plan: str = "plan") -> int:
    return sum(item["bufsz"] for item in document(result, f"first/{plan}.json")["stage"])


def test_every_page_outside_of_the_lent_memory_is_in_the_dump(result: Result) -> None:
    lent, found = int(text(result, "second/lent")), document(result, "second/verdict.json")
    assert lent > 1000, "the pattern did not use the lent memory"
    assert found["expected"] == PATTERN_MIB * 256 - lent
    assert found["intact"] == found["expected"]
    assert (found["repeated"], found["missing"], found["broken"]) == (0, 0, 0)


def test_verify_counts_the_lent_memory_apart(result: Result) -> None:
    checks = {item["rule"]: item for item in document(result, "second/verified.json")["checks"]}
    assert checks["coverage"]["ok"] is True
    assert checks["lent"]["ok"] is True
    assert "MiB lent" in checks["lent"]["detail"]


def test_makedumpfile_filters_it(result: Result) -> None:
    assert "The dumpfile is saved" in text(result, "second/makedumpfile")
    assert "Kernel panic - not syncing: sysrq triggered crash" in text(result, "second/dmesg")


def test_only_what_is_loaded_is_held(result: Result) -> None:
    plan, status = document(result, "first/plan.json"), document(result, "first/status.json")
    assert plan["mode"] == "lent"
    held = int(text(result, "first/pool.armed")) * HUGE_PAGE_SIZE
    assert held == status["staged"]["huge_pages"] * HUGE_PAGE_SIZE
    assert held <= loaded_bytes(result) + MORE_THAN_LOADED
    print(f"held {held >> 20} MiB, loaded {loaded_bytes(result) >> 20} MiB")
    assert sum(int(i["end"], 16) - int(i["start"], 16) for i in plan["lent"]) > 100 << 20


def test_a_small_initrd_is_held_with_no_more_beside_it(result: Result) -> None:
    held = int(text(result, "first/pool.small")) * HUGE_PAGE_SIZE
    loaded = loaded_bytes(result, "small")
    assert document(result, "first/small.json")["mode"] == "lent"
    assert loaded < loaded_bytes(result) - (8 << 20)
    assert held <= loaded + MORE_THAN_LOADED
    print(f"held {held >> 20} MiB, loaded {loaded >> 20} MiB")


def test_memory_before_while_and_after(result: Result) -> None:
    before, once, after = (available(result, when) for when in ("before", "once", "after"))
    held = int(text(result, "first/pool.once")) * HUGE_PAGE_SIZE
    print(f"MemAvailable {before >> 20} MiB before, {once >> 20} while, {after >> 20} after")
    assert before - once < held + (24 << 20)
    assert before - after < 24 << 20
    assert text(result, "first/pool.before") == text(result, "first/pool.after")


def test_the_blocks_are_given_back(result: Result) -> None:
    zones = {when: text(result, f"first/zones.{when}") for when in ("before", "once", "after")}
    assert zones["before"] == zones["after"]
    assert movable_blocks(zones["once"])
    assert not movable_blocks(zones["before"])
    assert "busy_blocks" not in document(result, "first/unload.json")


def test_it_is_armed_in_time(result: Result) -> None:
    """A busy host takes its time for everything: what counts is what it takes for in-place."""
    seconds = result.seconds_at("armed lent") - result.seconds_at("begins to arm")
    other = result.seconds_at("armed in-place") - result.seconds_at("begins in-place")
    print(f"armed in {seconds:.1f} s, in-place in {other:.1f} s")
    assert seconds < max(ARMED_SECONDS, 2 * other)


def test_status_finds_no_problem(result: Result) -> None:
    staged = document(result, "first/status.json")["staged"]
    assert staged["problem"] is None
    assert staged["lent"] == document(result, "first/plan.json")["lent"]


def test_the_capture_kernel_starts_no_balloon_driver(result: Result) -> None:
    assert "module_blacklist=virtio_balloon,hv_balloon" in text(result, "second/cmdline")
