"""The stub and devices: how long it waits for them, how it stops them, and how it resets."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

pytest.importorskip("unicorn", reason="unicorn is not installed: the stub cannot be executed")

from unicorn import UC_HOOK_CODE

from pykexec.purgatory import (
    STUB_SIZE,
    StubFlag,
)

from .emulated import (
    ENTRY,
    STUB,
    End,
    Pc,
)
from .test_stub import CHECKING, HALTED, HIGH, LOW, NMI, STARTING, Load, noise, run

WAITING = "pykexec: waiting {} s for devices {}\r\n"
SLOW_KHZ = 1
"""A thousand cycles a second: over in a moment."""


@pytest.mark.parametrize("flags", [StubFlag.NONE, StubFlag.NO_CHECKS])
def test_the_wait_is_between_the_checks_and_the_exchange(flags: StubFlag) -> None:
    load = Load(settle_seconds=2, flags=flags)
    pc = load.into(Pc())
    code = pc.read(STUB, STUB_SIZE)
    turns = pc.passed(STUB + code.index(b"\x4c\x8b\x07"))
    during = pc.at_each(b".", lambda: len(turns))
    assert pc.run() is End.STARTED
    assert pc.text.endswith(WAITING.format(2, "..") + STARTING)
    assert during == [0, 0]
    assert len(turns) == 0x2000 // 32


def test_the_wait_is_counted_by_the_timer_where_the_tsc_is_unknown() -> None:
    pc, end = run(Load(settle_seconds=3))
    assert (end, pc.text) == (End.STARTED, CHECKING + WAITING.format(3, "...") + STARTING)
    assert pc.writes == TICK * 60


def test_a_wait_of_no_seconds_is_none() -> None:
    pc, end = run(Load(tsc_khz=SLOW_KHZ))
    assert (end, pc.text) == (End.STARTED, CHECKING + STARTING)


@pytest.mark.parametrize("step", [1, 7, 999, 1000, 1 << 40])
def test_the_wait_is_counted_by_the_tsc(step: int) -> None:
    """Of which `step` cycles pass between two looks; it begins right below 32 bits."""
    load = Load(settle_seconds=2, tsc_khz=SLOW_KHZ)
    pc = load.into(Pc())
    looks = pc.tsc(lambda look: 0xFFFF_FF00 + step * look)
    assert pc.run() is End.STARTED
    assert pc.text == CHECKING + WAITING.format(2, "..") + STARTING
    assert pc.writes == [], "no timer is needed"
    assert looks[0] == 2 * (1 + -(-1000 // step))


@pytest.mark.parametrize(
    ("what", "clock"),
    [
        ("stands still from the start", lambda look: 5000),
        ("stops", lambda look: 5000 + min(look, 30)),
        ("is reset", lambda look: (1 << 40) + look if look < 30 else look),
    ],
)
def test_a_tsc_that_fails_is_given_up_and_the_timer_waits(
    what: str, clock: Callable[[int], int]
) -> None:
    load = Load(settle_seconds=2, tsc_khz=SLOW_KHZ)
    pc = load.into(Pc())
    looks = pc.tsc(clock)
    assert pc.run() is End.STARTED, what
    assert pc.text == CHECKING + WAITING.format(2, "..") + STARTING
    assert pc.writes == TICK * 40
    assert looks[0] <= 33, "the second second does not try it again"


def test_a_tsc_that_crawls_ends() -> None:
    """It moves, but would take for ever. Thirty-two million reads are not executed here: the
    counter is at its last ones."""
    load = Load(settle_seconds=1, tsc_khz=4_000_000)
    pc = load.into(Pc())
    polls = pc.read(STUB, STUB_SIZE).index(b"\xb9\x00\x00\x00\x02")  # mov $0x2000000, %ecx
    pc.write(STUB + polls + 1, struct.pack("<I", 500))
    looks = pc.tsc(lambda look: look)
    assert pc.run() is End.STARTED
    assert pc.writes == TICK * 20
    assert looks[0] == 501


def test_the_wait_ends_with_every_clock_dead() -> None:
    load = Load(settle_seconds=1, tsc_khz=SLOW_KHZ)
    pc = load.into(Pc(pit_port=0xFF, uart_status=0xFF))
    pc.tsc(lambda look: 0)
    assert pc.run() is End.STARTED
    assert 20 * 50_000 <= pc.reads <= 20 * 50_000 + 100


def test_what_does_not_match_is_not_waited_for() -> None:
    load = Load(settle_seconds=5)
    pc = load.into(Pc())
    pc.flip(next(iter(load.regions)))
    assert pc.run() is End.HALTED
    assert "waiting" not in pc.text


def test_an_nmi_in_the_wait_is_let_pass() -> None:
    pc = Load(settle_seconds=1, tsc_khz=SLOW_KHZ).into(Pc())
    looks = pc.tsc(lambda look: look)
    pc.interrupt_at(pc.rdtsc + 2, NMI, times=3)
    assert pc.run() is End.STARTED
    assert looks[0] == 1001


# -- devices that were not stopped

AGAIN = "pykexec: checking again\r\n"
COMMAND, BUS_MASTER = 4, 4


def pci_function(header_type: int = 0, command: int = 0x0507) -> bytearray:
    """Configuration space; the status register, which a write would clear, is all ones."""
    space = bytearray(noise(64, 3))
    space[:8] = struct.pack("<HHHH", 0x1AF4, 0x1001, command, 0xFFFF)
    space[14] = header_type
    return space


def pci_machine() -> dict[int, bytearray]:
    return {
        0x0000: pci_function(),
        0x0008: pci_function(0x80),  # device 1 with several functions
        0x000B: pci_function(0x80),
        0x000F: pci_function(),
        0x0010: pci_function(0x01),  # a bridge
        0x0018: pci_function(0x00),
        0x0019: pci_function(0x00),  # not a function: device 3 has one, which answers for all
        0x0100: pci_function(command=0x0003),
        0xFFFF: pci_function(),
        0xFFF8: pci_function(0x80),
    }


STOPPED = (0x0000, 0x0008, 0x000B, 0x000F, 0x0018, 0xFFFF, 0xFFF8)


def test_endpoints_are_stopped_before_the_wait_and_nothing_else_is_changed() -> None:
    before, pci = pci_machine(), pci_machine()
    load = Load(exchanges=(), flags=StubFlag.IN_USE, settle_seconds=1, tsc_khz=SLOW_KHZ)
    pc = load.into(Pc(pci=pci))
    pc.tsc(lambda look: look)
    stopped = pc.at_each(b".", lambda: sum(not pci[at][COMMAND] & BUS_MASTER for at in pci))
    assert pc.run() is End.STARTED
    assert pc.text == CHECKING + WAITING.format(1, ".") + AGAIN + STARTING
    assert stopped == [len(STOPPED) + 1], "the one that was no bus master is none"
    for at in STOPPED:
        before[at][COMMAND] &= ~BUS_MASTER
    assert pci == before


@pytest.mark.parametrize("pci", [{}, None])
def test_a_machine_without_pci(pci: dict[int, bytearray] | None) -> None:
    """And one whose destinations are not in use: the ports are not touched."""
    flags = StubFlag.NONE if pci is None else StubFlag.IN_USE
    pc, end = run(Load(exchanges=(), flags=flags), Pc(pci=pci))
    assert (end, pc.text) == (End.STARTED, CHECKING + (AGAIN if flags else "") + STARTING)


def moved_load() -> Load:
    """Three regions in a stage of two pages, which go to the kernel's place and elsewhere, and one
    that stays where it is."""
    dest, stage = ENTRY & ~0xFFF, HIGH + 0x4000
    return Load(
        regions={
            stage: noise(4096, 1),
            stage + 0x2000: noise(100, 2),
            stage + 0x2064: noise(2000, 3),
            LOW: noise(700, 4),
        },
        exchanges=((dest, stage, 0x1000), (dest + 0x8000, stage + 0x2000, 0x1000)),
        flags=StubFlag.IN_USE,
    )


MOVED = (
    ENTRY & ~0xFFF,
    (ENTRY & ~0xFFF) + 0x8000,
    (ENTRY & ~0xFFF) + 0x8064,
    LOW,
)
"""Where each region is after the exchanges."""


def test_regions_are_checked_again_where_the_exchanges_moved_them() -> None:
    pc, end = run(moved_load(), Pc(pci={}))
    assert (end, pc.text) == (End.STARTED, CHECKING + AGAIN + STARTING)


@pytest.mark.parametrize("number", range(4))
def test_what_a_device_writes_during_the_exchange_is_not_started(number: int) -> None:
    pc = moved_load().into(Pc(pci={}))
    code = pc.read(STUB, STUB_SIZE)
    reload = STUB + code.rindex(b"\x0f\x22\xd8")  # mov %rax, %cr3: after the exchange
    pc.uc.hook_add(UC_HOOK_CODE, lambda *_: pc.flip(MOVED[number] + 50), begin=reload, end=reload)
    assert pc.run() is End.HALTED
    wrong = f"pykexec: region {number} at {MOVED[number]:#x} does not match\r\n"
    assert pc.text == CHECKING + AGAIN + wrong + HALTED


def test_no_checks_means_no_second_ones() -> None:
    load = moved_load()
    load.flags |= StubFlag.NO_CHECKS
    pc, end = run(load, Pc(pci={}))
    assert (end, pc.text) == (End.STARTED, "\r\npykexec: not checking\r\n" + STARTING)


# -- the reset

TICK = [(0x61, 1), (0x43, 0xB0), (0x42, 59659 & 0xFF), (0x42, 59659 >> 8)]
CF9, KEYBOARD = [(0xCF9, 2), (0xCF9, 6)], [(0x64, 0xFE)]


def refused(pc: Pc, seconds: int = 1) -> End:
    """A load with a damaged region on this PC."""
    load = Load(reset_seconds=seconds)
    load.into(pc)
    pc.flip(next(iter(load.regions)))
    return pc.run()


@pytest.mark.parametrize("seconds", [1, 3])
def test_a_mismatch_resets_after_the_delay(seconds: int) -> None:
    pc = Pc()
    assert refused(pc, seconds) is End.RESET_CF9
    assert pc.text.endswith(f"pykexec: kernel not started, reset in {seconds} s\r\n")
    assert pc.writes == TICK * 20 * seconds + CF9


def test_the_delay_is_that_of_the_timer() -> None:
    pc = Pc(pit_reads=500)
    assert refused(pc) is End.RESET_CF9
    assert 20 * 500 <= pc.reads - pc.text.count("") <= 20 * 510


@pytest.mark.parametrize(
    ("what", "pc"),
    [
        ("does not count", Pc(pit_reads=None)),
        ("reads 0x00", Pc(pit_port=0x00)),
        ("reads 0xff", Pc(pit_port=0xFF)),
    ],
)
def test_a_dead_timer_is_given_up_and_replaced_by_port_reads(what: str, pc: Pc) -> None:
    assert refused(pc) is End.RESET_CF9, what
    gate = (0x61, 0x0D if pc.pit_port == 0xFF else 0x01)
    assert pc.writes == [gate, *TICK[1:], *CF9]
    assert 19 * 50_000 <= pc.reads <= 2_000_000 + 20 * 50_000 + 200


def test_three_ways_to_reset_in_turn() -> None:
    pc = Pc(cf9_works=False)
    assert refused(pc) is End.RESET_KEYBOARD
    assert pc.writes == TICK * 20 + CF9 + TICK + KEYBOARD
    pc = Pc(cf9_works=False, keyboard_works=False)
    assert refused(pc) is End.TRIPLE_FAULT
    assert pc.writes == TICK * 20 + CF9 + TICK + KEYBOARD + TICK


def test_a_keyboard_controller_that_is_not_there_does_not_hang_it() -> None:
    pc = Pc(cf9_works=False, keyboard_works=False, keyboard_status=0xFF)
    assert refused(pc) is End.TRIPLE_FAULT


def test_a_wrong_region_with_all_devices_dead_still_ends() -> None:
    pc = Pc(
        uart_status=0xFF,
        pit_port=0xFF,
        keyboard_status=0xFF,
        cf9_works=False,
        keyboard_works=False,
    )
    assert refused(pc) is End.TRIPLE_FAULT
