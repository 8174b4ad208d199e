"""The capture kernel starts from any kind of panic, wherever the stage is."""

from __future__ import annotations

import warnings

import pytest

from pykexec.abi.hugetlb import HUGE_PAGE_SIZE
from pykexec.memory.ranges import PhysRange, RangeSet

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

LOAD = f"""{PYKEXEC} load /boot/vmlinuz --initrd /boot/initrd2 --backend kernel --crash-by-normal \\
        --append "{CAPTURE_APPEND}" --json"""

WAIT = f"""
    {LOAD} --mode {{mode}} > /out/plan.json 2> /out/plan.err
    echo 1 > /proc/sys/kernel/unknown_nmi_panic
    echo 1 > /proc/sys/kernel/sysrq
    copyout /out
    host mark waiting
    sleep 60
"""

LOOK = """
    test -s /proc/vmcore
    makedumpfile --dump-dmesg /proc/vmcore /out/dmesg > /dev/null 2>&1
    copyout /out
"""


def by_nmi(qmp: Qmp) -> None:
    """An unexpected NMI on every CPU at once."""
    qmp.nmi()


def by_keyboard(qmp: Qmp) -> None:
    """Alt-SysRq-c: handled in the keyboard's interrupt."""
    keys = [{"type": "qcode", "data": key} for key in ("alt", "sysrq", "c")]
    qmp("send-key", {"keys": keys})


@pytest.mark.parametrize(
    ("mode", "panic", "trace"),
    [
        ("in-place", by_nmi, "Kernel panic - not syncing: NMI: Not continuing"),
        ("stub-swap", by_keyboard, "<IRQ>"),
    ],
)
def test_a_panic_in_interrupt_context(vm: VM, mode: str, panic: object, trace: str) -> None:
    def on_mark(output: str, qmp: Qmp) -> None:
        if output == "waiting":
            panic(qmp)  # type: ignore[operator]

    result = vm.run(
        WAIT.format(mode=mode),
        LOOK,
        append="crashkernel=64K",
        mem_mib=1024,
        smp=2,
        python=True,
        site=site(),
        programs=["makedumpfile"],
        on_mark=on_mark,
    ).expect(0)
    assert trace in text(result, "second/dmesg")


def test_a_stage_above_4_gib(vm: VM) -> None:
    """6 GiB of RAM, the window above 4 GiB: boot_params has high halves, and there is no DMA32
    memory."""
    first = f"""
        python3 -m guest.pattern hold 400 /out/frames
        {LOAD} --mode in-place --crash-size 256M --mem-min 4G > /out/plan.json 2> /out/plan.err
        {SETTLED}
        copyout /out
        echo c > /proc/sysrq-trigger
        sleep 60
    """
    result = vm.run(
        first,
        CAPTURE,
        append="crashkernel=64K",
        mem_mib=6144,
        smp=2,
        python=True,
        second_python=True,
        site=site(),
        programs=["makedumpfile"],
        timeout_s=500,
    ).expect(0)
    plan = document(result, "first/plan.json")
    assert int(plan["window"]["start"], 16) >= 4 << 30
    assert_whole(verdict(result), 400 * 256)


PATTERN_MIB = 200
POOLS = "cat /proc/sys/vm/nr_hugepages /sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages"


@pytest.fixture(scope="module")
def emptied(vm: VM) -> Result:
    """Huge pages are adjacent in only one GiB, where all are in use. The address of the kernel
    itself is fixed, because it could be in that GiB."""
    first = f"""
        python3 -m guest.pattern hold {PATTERN_MIB} /out/frames
        python3 -m guest.scatter
        host mark scattered
        {LOAD} > /out/once.json 2> /out/once.err
        host mark loaded
        {POOLS} > /out/loaded
        {PYKEXEC} unload --crash --backend kernel > /out/unload
        {POOLS} > /out/unloaded
        {LOAD} > /out/plan.json 2> /out/plan.err
        {PYKEXEC} status --backend kernel --json > /out/status.json
        {SETTLED}
        copyout /out
        echo c > /proc/sysrq-trigger
        sleep 60
    """
    for _ in range(3):
        result = emptied_once(vm, first)
        if document(result, "first/once.json")["mode"] == "in-place":
            break
        warnings.warn("the kernel itself had allocated in the GiB", stacklevel=1)
    return result


def emptied_once(vm: VM, first: str) -> Result:
    return vm.run(
        first,
        CAPTURE,
        append="crashkernel=64K hugepagesz=1G hugepages=1 nokaslr",
        mem_mib=3328,
        smp=2,
        cpu="qemu64,+pdpe1gb",
        python=True,
        second_python=True,
        site=site(),
        programs=["makedumpfile"],
        timeout_s=400,
    ).expect(0)


def span(found: dict[str, str]) -> PhysRange:
    return PhysRange(int(found["start"], 16), int(found["end"], 16))


def window(result: Result) -> PhysRange:
    return span(document(result, "first/plan.json")["window"])


@pytest.mark.parametrize("name", ["once", "plan"])
def test_where_nothing_is_adjacent_the_kernel_empties_a_gib(emptied: Result, name: str) -> None:
    assert document(emptied, f"first/{name}.json")["mode"] == "in-place"


def test_the_rest_of_the_gib_is_given_back_at_once(emptied: Result) -> None:
    """As many pages remain in use as if they had been adjacent from the start: the window, a page
    for the low memory and one for the headers."""
    staged = document(emptied, "first/status.json")["staged"]
    assert staged["problem"] is None
    assert text(emptied, "first/loaded").split() == [str(staged["huge_pages"]), "0"]
    assert staged["huge_pages"] == window(emptied).size // HUGE_PAGE_SIZE + 2
    assert text(emptied, "first/unloaded").split() == ["0", "0"]


def test_the_dump_from_an_emptied_gib_is_whole_and_shows_no_stage(emptied: Result) -> None:
    assert_whole(verdict(emptied), PATTERN_MIB * 256)
    shown = map(span, document(emptied, "second/info.json")["memory"])
    assert not RangeSet.of(shown).overlaps(window(emptied))
