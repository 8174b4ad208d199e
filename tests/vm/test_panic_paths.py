"""However the panic comes, and wherever the stage lies, the capture kernel starts."""

from __future__ import annotations

import pytest

from .lab import VM
from .machine import Qmp
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
    """An NMI that nobody asked for, on every CPU at once."""
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
    def on_mark(said: str, qmp: Qmp) -> None:
        if said == "waiting":
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
    """6 GiB of RAM, the window above 4 GiB: boot_params has high halves, and no DMA32 memory."""
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
