"""Panics that do not start a capture kernel: the messages, and that the machine resets by
itself."""

from __future__ import annotations

import pytest

from pykexec.purgatory import PARAMS_OFFSET

from .gdb import write_physical
from .lab import VM
from .machine import NO_STATUS, Qmp, Result
from .product import PYKEXEC, document, site

RESET_SECONDS = 3
PANIC = f"panic={RESET_SECONDS}"
RESETS = range(1, 60)
"""Allowed range of seconds: neither zero nor all. The kernel counts them in cycles of another CPU,
and the console may be read late."""
TABLES = PARAMS_OFFSET + 3 * 8
"""Offset of the address of the tables in struct stub_params: after magic, boot_params, entry."""
NOWHERE = 0x3F_1234_5000
"""Outside the guest's memory: the identity map that the kernel leaves to the stub ends before
it."""

ARMED = f"""
    {PYKEXEC} load /boot/vmlinuz --initrd /boot/initrd2 --backend kernel --crash-by-normal \\
        --mode stub-swap --json > /out/plan.json
    copyout /out
    host mark "stub at $(sed -n 's/.*"entry": "\\(.*\\)".*/\\1/p' /out/plan.json | tail -n 1)"
    echo c > /proc/sysrq-trigger
    sleep 60
"""
TIMES = 5
HELD = f"python3 -m guest.held_load {TIMES}"


@pytest.fixture(scope="module")
def faulty(vm: VM) -> Result:
    """A word in the stub's own page changes before the panic, as by a hardware fault."""

    def on_mark(output: str, qmp: Qmp) -> None:
        if output.startswith("stub at "):
            stub = int(output.removeprefix("stub at "), 16)
            write_physical(qmp, stub + TABLES, NOWHERE.to_bytes(8, "little"))

    append = f"crashkernel=64K {PANIC}"
    return vm.run(ARMED, "exit 1", append=append, python=True, site=site(), on_mark=on_mark).expect(
        NO_STATUS
    )


def test_an_exception_in_the_stub_is_reported(faulty: Result) -> None:
    """A page fault, 14, with the addresses of the code and of the access."""
    (line,) = [mark.text for mark in faulty.console_lines if "exception" in mark.text]
    stub = document(faulty, "first/plan.json")["entry"]
    assert line.startswith("pykexec: exception 14 at 0x")
    assert line.endswith(f", stub at {stub}, cr2 {NOWHERE:#x}")
    assert "pykexec: starting" not in faulty.console


def test_after_an_exception_the_machine_resets(faulty: Result) -> None:
    """kernel.panic seconds later, by the machine's timer."""
    output = faulty.seconds_at_console(f"kernel not started, reset in {RESET_SECONDS} s")
    assert int(faulty.seconds - output) in RESETS


@pytest.fixture(scope="module")
def held(vm: VM) -> Result:
    """A panic while kexec_load(2) is waiting for the bytes of its first segment."""
    append = f"crashkernel=64K {PANIC}"
    return vm.run(HELD, "exit 1", append=append, smp=2, python=True, site=site()).expect(NO_STATUS)


def test_a_panic_during_a_load_starts_nothing(held: Result) -> None:
    """The kernel's lock is held, so that it skips the crash image; it reboots according to
    kernel.panic."""
    held.seconds_at("another kexec_load: EBUSY")
    assert "Kernel panic - not syncing: sysrq triggered crash" in held.console
    assert "pykexec: checking" not in held.console
    output = held.seconds_at_console(f"Rebooting in {RESET_SECONDS} seconds")
    assert int(held.seconds - output) in RESETS


def test_a_load_is_inside_the_system_call_for_a_moment(held: Result) -> None:
    """Everything is read, digested and staged before, so it takes some milliseconds even under TCG,
    except for one load during which the whole machine may stall."""
    seconds = document(held, "first/seconds.json")
    assert len(seconds) == TIMES
    assert sorted(seconds)[TIMES // 2] < 0.5
