"""A real panic on arm64: crash by normal in every panic mode. Two CPUs, sysrq-c on the second."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from .lab import VM
from .machine import Qmp, Result
from .product import (
    ARM64_CAPTURE_APPEND,
    CAPTURE,
    PYKEXEC,
    SETTLED,
    arm64_region,
    arm64_window,
    assert_made_by_makedumpfile,
    assert_whole,
    document,
    site,
    text,
    verdict,
)
from .supplies import Kernel

PATTERN_MIB = 128
SETTLE_SECONDS = 2
LOAD = (
    f"{PYKEXEC} load /boot/vmlinuz --initrd /boot/initrd2 --backend kernel "
    "--crash-by-normal --crash-size {window}"
)


@dataclass(frozen=True)
class Way:
    """One kind of load, and the guest to try it in."""

    options: str
    append: str = ""
    mem_mib: int = 2048


WAYS = {
    "in-place": Way("--mode in-place"),
    "stub-swap": Way(f"--mode stub-swap --settle {SETTLE_SECONDS}"),
    "lent": Way("--keep kernel --settle 1", "movablecore={movable}"),
}

FIRST = """
    {before}
    python3 -m guest.pattern hold {mib} /out/frames
    host mark "pattern laid out"
    {load} {options} --append "{append}" --json > /out/plan.json 2> /out/plan.err
    host mark "loaded"
    {pykexec} status --backend kernel --json > /out/status.json
    {settled}
    copyout /out
    host mark "panic"
    taskset 2 sh -c 'echo c > /proc/sysrq-trigger'
    sleep 60
"""


OWN_LOG = f"""
    {PYKEXEC} vmcore dmesg /proc/vmcore > /out/own-dmesg
    copyout /out
"""


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def append(arm_vm: VM, way: Way) -> str:
    """Words for the first kernel, with movable memory for more than the window."""
    words = way.append.format(movable=movable(arm_vm.kernel))
    return f"crashkernel={arm64_region(arm_vm.kernel)} {words}"


def movable(kernel: Kernel) -> str:
    """Movable memory for more than the window."""
    return "768M" if kernel.series == "16k" else "512M"


def load(arm_vm: VM) -> str:
    """With a window that is large enough."""
    return LOAD.format(window=arm64_window(arm_vm.kernel))


def capture(way: str) -> str:
    """The script of the capture kernel, which expects no frames in memory that was lent."""
    if way != "lent":
        return CAPTURE
    kept = "python3 -m guest.lent_frames /first/frames /first/plan.json /tmp/kept > /out/lent"
    return CAPTURE.replace("/first/frames", "/tmp/kept").replace("ls -l /proc/vmcore", kept)


def assert_whole_but_lent(result: Result, way: str) -> None:
    lent = int(text(result, "second/lent")) if way == "lent" else 0
    assert_whole(verdict(result), PATTERN_MIB * 256 - lent)


def panic(
    arm_vm: VM,
    way: str,
    *,
    cpu: str = "",
    arguments: Sequence[str] = (),
    firmware: Path | None = None,
    before: str = "",
    on_mark: Callable[[str, Qmp], object] | None = None,
) -> Result:
    """A panic of CPU 1, after the script `before`; the rest is for the machine."""
    chosen = WAYS[way]
    first = FIRST.format(
        before=before,
        mib=PATTERN_MIB,
        load=load(arm_vm),
        pykexec=PYKEXEC,
        options=chosen.options,
        append=ARM64_CAPTURE_APPEND,
        settled=SETTLED,
    )
    return arm_vm.run(
        first,
        capture(way) + OWN_LOG,
        append=append(arm_vm, chosen),
        mem_mib=chosen.mem_mib,
        smp=2,
        python=True,
        second_python=True,
        site=site(),
        programs=["makedumpfile"],
        timeout_s=900 if arguments or firmware else 600,
        cpu=cpu,
        arguments=arguments,
        firmware=firmware,
        on_mark=on_mark,
    ).expect(0)


@pytest.fixture(scope="module")
def result(arm_vm: VM, way: str) -> Result:
    return panic(arm_vm, way)


def test_the_dump_is_whole(result: Result, way: str) -> None:
    assert_whole_but_lent(result, way)


def test_the_stub_waits_before_it_moves_anything(result: Result, way: str) -> None:
    if way == "stub-swap":
        output = f"pykexec: waiting {SETTLE_SECONDS} s for devices {'.' * SETTLE_SECONDS}"
        assert output in result.console
    assert "pykexec: checking\n" in result.console.replace("\r", "")
    assert ("pykexec: checking again" in result.console) is (way != "in-place")
    assert "pykexec: starting" in result.console


def test_the_headers_are_in_the_window(result: Result, way: str) -> None:
    plan = document(result, "first/plan.json")
    assert plan["mode"] == way
    assert plan["console"]["port"] == "0x9000000"
    window, headers = plan["window"], plan["elfcorehdr"]
    assert int(window["start"], 16) <= int(headers["addr"], 16) < int(window["end"], 16)


def test_makedumpfile_filters_it(arm_vm: VM, result: Result) -> None:
    log = text(result, "second/own-dmesg")
    assert "Kernel panic - not syncing: sysrq triggered crash" in log
    if assert_made_by_makedumpfile(result, arm_vm.kernel):
        assert text(result, "second/dmesg") == log
