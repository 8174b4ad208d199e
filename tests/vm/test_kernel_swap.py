"""Crash by normal without any reservation, on a kernel that swaps pages at a kexec: loaded, killed
at bad moments, started by exec, with a complete dump. On a kernel that copies pages it is
refused."""

from __future__ import annotations

import pytest

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
LOAD = f"""{PYKEXEC} load /boot/vmlinuz --initrd /boot/initrd2 --backend kernel \\
    --crash-by-normal --mode kernel-swap --crash-size 208M --append "{CAPTURE_APPEND}" """

KILLED = f"""
    pool=$(cat /proc/sys/vm/nr_hugepages)
    for delay in 1 2 3 4; do
        {LOAD} > /dev/null 2>&1 &
        pid=$!
        sleep $delay
        kill -9 $pid 2> /dev/null || true
        wait $pid || true
        {PYKEXEC} unload --backend kernel > /dev/null
        test "$(cat /proc/sys/vm/nr_hugepages)" = "$pool"
        test "$(cat /sys/kernel/kexec_loaded)" = 0
        test ! -e /run/pykexec/stage.json
        test ! -e /run/pykexec/loaded.json
        ! grep -q /run/pykexec /proc/mounts
    done
"""

REPLACED = f"""
    {LOAD} > /dev/null 2>&1
    kexec -c -l /boot/vmlinuz --append=quiet
    {PYKEXEC} status --backend kernel > /out/replaced.txt || echo $? > /out/replaced.status
    {PYKEXEC} exec --backend kernel --yes 2> /out/replaced.err || echo $? >> /out/replaced.status
    {PYKEXEC} unload --backend kernel > /dev/null
"""

FIRST = f"""
    python3 -m guest.pattern hold {PATTERN_MIB} /out/frames
    host mark "pattern laid out"
    {KILLED}
    host mark "killed four times"
    {REPLACED}
    host mark "replaced"
    {LOAD} --json > /out/plan.json 2> /out/plan.err
    {PYKEXEC} status --backend kernel > /out/status.txt
    {LOAD} > /out/second.out 2> /out/second.err || echo $? > /out/second.status
    {SETTLED}
    copyout /out
    host mark "exec"
    {PYKEXEC} exec --backend kernel --yes
"""


@pytest.fixture(scope="module")
def result(vm: VM) -> Result:
    if vm.kernel.series not in {"6.1", "6.12"}:
        pytest.skip(f"{vm.kernel.series} copies at a kexec: the refusal is tested apart")
    return vm.run(
        FIRST,
        CAPTURE,
        mem_mib=1536,
        python=True,
        second_python=True,
        site=site(),
        programs=["makedumpfile", "kexec"],
        timeout_s=400,
    ).expect(0)


def test_the_dump_is_whole(result: Result) -> None:
    assert_whole(verdict(result), PATTERN_MIB * 256)


def test_pages_inside_the_window_were_moved_and_found(result: Result) -> None:
    plan = document(result, "first/plan.json")
    assert plan["state"] == "bound"
    assert plan["mode"] == "kernel-swap"
    moved = sum(run["size"] for run in plan["backup_map"] if run["dest"] != run["source"])
    assert moved > 16 << 20
    # Those of memory, one for the kernel's image at its virtual addresses, and two notes.
    assert plan["elfcorehdr"]["program_headers"] == verdict(result).loads + 4


def test_it_says_what_a_reboot_may_do_now(result: Result) -> None:
    warnings = text(result, "first/plan.err")
    assert "a plain reboot may now start the capture kernel" in warnings
    assert "no panic starts it, only pykexec exec does; " in warnings
    assert "boot with crashkernel=64K" in warnings
    assert "DMA: " in warnings


def test_a_second_load_does_not_replace_the_first(result: Result) -> None:
    assert text(result, "first/second.status") == "1"
    assert text(result, "first/second.err").startswith(
        "pykexec: a crash by normal is loaded already"
    )


def test_status_looks_at_the_stage_again(result: Result) -> None:
    status = text(result, "first/status.txt")
    assert "crash by normal, mode kernel-swap (normal slot)" in status
    assert "every address and every digest is unchanged" in status


def test_another_programs_image_is_not_started_for_ours(result: Result) -> None:
    problem = "the normal image is not the one that pykexec loaded: another program has replaced it"
    assert text(result, "first/replaced.status").split() == ["3", "3"]
    assert f"check      {problem}" in text(result, "first/replaced.txt")
    assert text(result, "first/replaced.err").startswith(f"pykexec: {problem}")


def test_makedumpfile_takes_it(result: Result) -> None:
    assert "The dumpfile is saved" in text(result, "second/makedumpfile")
    assert "pykexec" not in text(result, "second/cmdline")


def test_drgn_reads_it(result: Result) -> None:
    drgn = pytest.importorskip("drgn")
    program = drgn.Program()
    program.set_core_dump(str(result.files / "second/dump"))
    assert program.flags & drgn.ProgramFlags.IS_LINUX_KERNEL
    release = text(result, "first/plan.json")
    assert program["VMCOREINFO"].string_().decode().split("\n")[0].partition("=")[2] in release


def test_a_kernel_that_copies_is_told_apart(vm: VM) -> None:
    if vm.kernel.series in ("6.1", "6.12"):
        pytest.skip(f"{vm.kernel.series} swaps at a kexec")
    first = f"""
        {LOAD} 2> /out/err && exit 1
        grep -q "mode kernel-swap: this kernel copies pages at a kexec" /out/err
        test "$(cat /proc/sys/vm/nr_hugepages)" = 0
    """
    vm.run(first, CAPTURE, python=True, site=site()).expect(0)
