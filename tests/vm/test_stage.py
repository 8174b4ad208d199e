"""The memory that holds an image for a panic: all of it is released again, too little memory gives
a clear error, and a changed byte is detected before it is used."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import make_bzimage

from .lab import VM
from .machine import NO_STATUS, Result
from .product import CAPTURE_APPEND, PYKEXEC, document, site, text

MIB = 1 << 20

LIFE = """
    python3 -m guest.stage_life > /out/life.json
    copyout /out
"""

WILD = """
import json, pathlib
from pykexec.backends.kernel.backend import KernelBackend
from pykexec.backends.kernel.calls import ThisKernel
plan = json.loads(pathlib.Path("/out/plan.json").read_text())
kernel = next(item for item in plan["stage"] if item["name"] == "kernel")
stage = KernelBackend(ThisKernel()).staged.unmoved()
addr = int(kernel["mem"], 16) + 0x12345
stage.write(addr, bytes([stage.read(addr, 1)[0] ^ 1]))
"""

DAMAGED = f"""
    python3 -m guest.pattern hold 300 /out/frames
    {PYKEXEC} load /boot/vmlinuz --initrd /boot/initrd2 --backend kernel --crash-by-normal \\
        --mode in-place --crash-size 192M --append "{CAPTURE_APPEND}" --json \\
        > /out/plan.json 2> /out/plan.err
    python3 /wild.py
    {PYKEXEC} status --backend kernel > /out/status.txt || echo $? > /out/status
    {PYKEXEC} exec --backend kernel --yes 2> /out/exec.err || echo $? > /out/exec
    copyout /out
    echo c > /proc/sysrq-trigger
    sleep 60
"""


@pytest.fixture(scope="module")
def life(vm: VM) -> dict[str, Any]:
    small = make_bzimage(bytes(0x10000), init_size=0x3378000)
    result = vm.run(
        LIFE,
        append="crashkernel=1M",
        mem_mib=1024,
        python=True,
        site=site(),
        files={"/small-vmlinuz": small},
        timeout_s=500,
    ).expect(0)
    found: dict[str, Any] = document(result, "first/life.json")
    return found


def test_a_hundred_loads_give_everything_back(life: dict[str, Any]) -> None:
    before, after = life["again"]["before"], life["again"]["after"]
    assert (after["total"], after["pool"]) == (before["total"], before["pool"]) == (0, 0)
    assert before["free"] - after["free"] < 16 * MIB


def test_too_little_memory_is_said_and_nothing_stays_taken(life: dict[str, Any]) -> None:
    refusal = life["pressure"]
    assert (refusal["code"], refusal["status"]) == ("no-room-for-stage", 6)
    assert "huge pages" in refusal["message"]
    assert "352" in refusal["message"]
    assert refusal["pool"] == 0


def test_pages_that_moved_are_noticed(life: dict[str, Any]) -> None:
    """All pages of one memory block that was taken offline, and no others."""
    found = life["moved"]
    assert found["code"] == "stage-changed"
    assert found["message"] == f"{found['pages']} huge pages of the stage have moved"
    assert found["pool"] == 0


def test_another_programs_crash_image_is_noticed(life: dict[str, Any]) -> None:
    """With the same entry: only the segments differ."""
    assert life["replaced"] == {
        "code": "stage-changed",
        "message": "the crash image is not the one that pykexec loaded: another program has "
        "replaced it",
    }


def test_where_no_pages_are_adjacent_the_image_waits_in_scattered_ones(
    life: dict[str, Any],
) -> None:
    found = life["fragmented"]
    assert found["refusal"]["code"] == "no-room-for-stage"
    assert found["refusal"]["message"].startswith("no 32 adjacent huge pages: the longest run has")
    assert found["refusal"]["pool"] == 0
    assert found["mode"] == "stub-swap"
    assert dict(found["lacking"])["in-place"].startswith("no 32 adjacent huge pages")
    assert found["pool"] == 0


def test_the_smallest_reservation_is_what_the_tool_says(life: dict[str, Any]) -> None:
    """The kernel accepts the load in a region of exactly this size; with a page less pykexec
    refuses it first."""
    found = life["smallest"]
    assert found["need"] <= 64 << 10
    refusal = found["a page less"]
    assert refusal["code"] == "reservation-too-small"
    assert refusal["message"].endswith(f"need {found['need'] >> 10} KiB on this machine")
    assert refusal["pool"] == 0


@pytest.fixture(scope="module")
def damaged(vm: VM) -> Result:
    """A stray write to the stage, then a panic: the machine ends by resetting itself.

    With 300 MiB of 1 GiB in use, a run of 192 MiB needs a search of most of the rest."""
    return vm.run(
        DAMAGED,
        "exit 1",
        append="crashkernel=64K",
        mem_mib=1024,
        python=True,
        site=site(),
        files={"/wild.py": WILD.encode()},
    ).expect(NO_STATUS)


def test_status_and_exec_notice_a_wild_write(damaged: Result) -> None:
    assert text(damaged, "first/status") == "3"
    assert "of the stage are not those that were written" in text(damaged, "first/status.txt")
    assert text(damaged, "first/exec") == "3"
    assert "of the stage are not those that were written" in text(damaged, "first/exec.err")


def test_the_stub_starts_nothing_that_was_damaged(damaged: Result) -> None:
    """It prints a message on the serial port, and resets after kernel.panic seconds (1 here)."""
    output = damaged.console[damaged.console.index("pykexec: checking") :]
    assert "does not match" in output
    assert "kernel not started, reset in 1 s" in output
    assert "pykexec: starting" not in output


def test_the_warnings_name_the_devices(damaged: Result) -> None:
    assert "bus-mastering devices: 0000:00:" in text(damaged, "first/plan.err")
