"""Panics on arm64 that do not start a capture kernel, since a byte of it has changed in memory: the
stub reports which part does not match, and the machine resets by itself."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from .gdb import flip_bit
from .lab import VM
from .machine import NO_STATUS, Qmp, Result
from .product import document, site
from .test_arm64_panic import WAYS, append, load

RESET_SECONDS = 3
RESETS = range(1, 60)
"""Allowed range of seconds, as in test_panic_refused."""


@dataclass(frozen=True)
class Byte:
    """A byte of a segment; a negative offset counts from its end."""

    name: str
    offset: int


SPOILED = {
    "in-place": Byte("kernel", 5 << 20),
    "stub-swap": Byte("initrd", -1),
    "lent": Byte("device tree", 0),
}
"""In each mode another part."""

FIRST = """
    {load} {options} --json > /out/plan.json 2> /out/plan.err
    copyout /out
    host mark "waits at $(python3 -m guest.waits_at /out/plan.json "{name}" {offset})"
    echo c > /proc/sysrq-trigger
    sleep 60
"""


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def spoiled(arm_vm: VM, way: str) -> Result:
    """The byte changes after the load, as by a hardware fault."""

    def on_mark(output: str, qmp: Qmp) -> None:
        if output.startswith("waits at "):
            flip_bit(qmp, int(output.removeprefix("waits at "), 16))

    chosen, byte = WAYS[way], SPOILED[way]
    first = FIRST.format(
        load=load(arm_vm), options=chosen.options, name=byte.name, offset=byte.offset
    )
    return arm_vm.run(
        first,
        "exit 1",
        append=f"{append(arm_vm, chosen)} panic={RESET_SECONDS}",
        mem_mib=chosen.mem_mib,
        python=True,
        site=site(),
        on_mark=on_mark,
        timeout_s=400,
    ).expect(NO_STATUS)


def test_a_changed_byte_is_reported(spoiled: Result, way: str) -> None:
    """With the address at which the part waits."""
    plan = document(spoiled, "first/plan.json")
    assert plan["mode"] == way
    (size,) = [item["bufsz"] for item in plan["stage"] if item["name"] == SPOILED[way].name]
    (mark,) = [mark.text for mark in spoiled.marks if mark.text.startswith("waits at ")]
    (line,) = [mark.text for mark in spoiled.console_lines if "does not match" in mark.text]
    found = re.fullmatch(r"pykexec: region \d+ at (0x[0-9a-f]+) does not match", line)
    assert found, line
    assert 0 <= int(mark.removeprefix("waits at "), 16) - int(found[1], 16) < size
    assert "pykexec: starting" not in spoiled.console


def test_the_machine_resets(spoiled: Result) -> None:
    """By PSCI, which ends QEMU."""
    output = spoiled.seconds_at_console(f"kernel not started, reset in {RESET_SECONDS} s")
    assert int(spoiled.seconds - output) in RESETS
    assert "reset failed" not in spoiled.console
