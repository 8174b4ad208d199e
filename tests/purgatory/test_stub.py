"""The machine code between two kernels, executed: it starts the kernel if everything matches, and
in no other case."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field

import pytest

pytest.importorskip("unicorn", reason="unicorn is not installed: the stub cannot be executed")

from hypothesis import given, settings
from hypothesis import strategies as st

from pykexec.purgatory import (
    PARAMS_OFFSET,
    REGION_SIZE,
    STUB_MEMSZ,
    STUB_SIZE,
    UNBOUND,
    Exchange,
    Region,
    Seal,
    StubFlag,
    StubParams,
    sha256,
    stub_image,
    tables,
)

from .emulated import (
    BOOT_PARAMS,
    COM1,
    ENTRY,
    GENERAL,
    NOT_MAPPED,
    SEAL,
    STUB,
    TABLES,
    End,
    Pc,
)

LOW, HIGH = 0x400000, 0x123400000
HEADERS = 0x500000
CHECKING, STARTING = "\r\npykexec: checking\r\n", "pykexec: starting\r\n"
NMI = 2
HALTED = "pykexec: kernel not started, halted\r\n"
TABLES_SHA256 = PARAMS_OFFSET + 40
"""Offset of the digest in the stub."""


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


@dataclass
class Load:
    """A stub with everything that belongs to it, placed in a PC."""

    regions: dict[int, bytes] = field(
        default_factory=lambda: {
            LOW + 3: noise(1000, 1),
            HIGH: noise(4096, 2),
            LOW + 0x10000: noise(64, 3),
        }
    )
    exchanges: tuple[tuple[int, int, int], ...] = ((LOW, HIGH + 0x10000, 0x2000),)
    headers: bytes | None = None
    bound: bool = True
    at: int = STUB
    serial_port: int = COM1
    flags: StubFlag = StubFlag.NONE
    reset_seconds: int = 0
    settle_seconds: int = 0
    tsc_khz: int = 0

    def into(self, pc: Pc) -> Pc:
        regions = [Region.of(addr, contents) for addr, contents in self.regions.items()]
        for addr, contents in self.regions.items():
            pc.write(addr, contents)
        # exchanges encoded by hand: the stub accepts any multiple of 8, the builder only pages
        records = tables(regions, ()) + b"".join(struct.pack("<QQQ", *e) for e in self.exchanges)
        pc.write(TABLES, records)
        if self.headers is not None:
            pc.write(HEADERS, self.headers)
            pc.write(SEAL, bytes(Seal.of(HEADERS, self.headers) if self.bound else UNBOUND))
        params = StubParams(
            boot_params=BOOT_PARAMS,
            entry=ENTRY,
            seal=0 if self.headers is None else SEAL,
            serial_port=self.serial_port,
            flags=self.flags,
            reset_seconds=self.reset_seconds,
            settle_seconds=self.settle_seconds,
            tsc_khz=self.tsc_khz,
        ).with_tables(records, at=TABLES if records else 0, n_regions=len(regions))
        pc.write(self.at, stub_image(params))
        # memory after the blob need not be zero
        pc.write(self.at + STUB_SIZE, b"\xa5" * (STUB_MEMSZ - STUB_SIZE))
        return pc


def run(load: Load, pc: Pc | None = None) -> tuple[Pc, End]:
    pc = load.into(pc or Pc())
    end = pc.run(load.at)
    assert pc.own_writes == [], "the stub writes to its own code page"
    return pc, end


# -- it starts


@pytest.mark.parametrize("at", [STUB, 0x1000, HIGH + 0x200000])
def test_a_matching_load_starts_the_kernel_as_the_boot_protocol_wants(at: int) -> None:
    pc, end = run(Load(at=at, headers=noise(5000)))
    assert end is End.STARTED
    assert pc.text == CHECKING + STARTING
    assert pc.faults == []
    assert pc.register("CS") == 0x10
    assert {pc.register(name) for name in ("DS", "ES", "SS", "FS", "GS")} == {0x18}
    assert not pc.register("EFLAGS") & 0x600, "IF and DF are clear"
    assert {name: pc.register(name) for name in GENERAL} == {
        name: BOOT_PARAMS if name == "RSI" else 0 for name in GENERAL
    }
    assert at < pc.register("RSP") <= at + STUB_MEMSZ


def test_no_records_at_all_need_no_tables() -> None:
    pc, end = run(Load(regions={}, exchanges=()))
    assert (end, pc.text) == (End.STARTED, CHECKING + STARTING)


def test_only_exchanges_or_only_regions() -> None:
    pc, end = run(Load(regions={}))
    assert (end, pc.text) == (End.STARTED, CHECKING + STARTING)
    pc, end = run(Load(exchanges=()))
    assert (end, pc.text) == (End.STARTED, CHECKING + STARTING)


def test_the_digest_is_sha256_at_every_length_that_pads_differently() -> None:
    lengths = [*range(1, 201), 255, 256, 257, 1000, 4095, 4096, 4097]
    regions = {LOW + 0x2000 * n + n % 9: noise(size, size) for n, size in enumerate(lengths)}
    pc, end = run(Load(regions=regions, exchanges=()))
    assert (end, pc.text) == (End.STARTED, CHECKING + STARTING)


def test_the_digest_of_nothing() -> None:
    pc = Load(regions={LOW: b"x"}, exchanges=()).into(Pc())
    record = struct.pack("<QQ32s", LOW, 0, sha256(b""))
    pc.write(TABLES, record)
    pc.write(STUB + TABLES_SHA256, sha256(record))
    assert pc.run() is End.STARTED


@pytest.mark.parametrize("length", [1, 55, 56, 57, 63, 64, 65, 119, 120, 128])
@pytest.mark.parametrize("where", ["first", "last"])
def test_every_byte_of_a_region_counts(length: int, where: str) -> None:
    pc = Load(regions={LOW: noise(length)}, exchanges=()).into(Pc())
    pc.flip(LOW if where == "first" else LOW + length - 1)
    assert pc.run() is End.HALTED


# -- it does not start


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_changed_region_is_named_and_nothing_is_started_or_moved(number: int) -> None:
    load = Load()
    addr = list(load.regions)[number]
    pc = load.into(Pc())
    pc.flip(addr + 50)
    before = pc.read(LOW, 0x20000), pc.read(HIGH, 0x20000)
    assert pc.run() is End.HALTED
    wrong = f"pykexec: region {number} at {addr:#x} does not match\r\n"
    assert pc.text == CHECKING + wrong + HALTED
    assert before == (pc.read(LOW, 0x20000), pc.read(HIGH, 0x20000))


def test_the_number_of_a_region_is_decimal() -> None:
    regions = {LOW + 64 * n: noise(64, n) for n in range(120)}
    pc = Load(regions=regions, exchanges=()).into(Pc())
    pc.flip(LOW + 64 * 109)
    assert pc.run() is End.HALTED
    assert f"region 109 at {LOW + 64 * 109:#x} does not" in pc.text


@pytest.mark.parametrize(
    ("what", "addr"),
    [
        ("a region's address", TABLES),
        ("a region's digest", TABLES + 16),
        ("an exchange's dest", TABLES + 3 * REGION_SIZE),
        ("the last byte", TABLES + 3 * REGION_SIZE + 23),
        ("the digest's first byte", STUB + TABLES_SHA256),
        ("the digest's last byte", STUB + TABLES_SHA256 + 31),
        ("n_regions", STUB + PARAMS_OFFSET + 32),
        ("n_exchanges", STUB + PARAMS_OFFSET + 36),
    ],
)
def test_changed_tables_are_not_used(what: str, addr: int) -> None:
    pc = Load().into(Pc())
    pc.flip(addr)
    assert pc.run() is End.HALTED, what
    assert pc.text == CHECKING + "pykexec: tables do not match\r\n" + HALTED


@pytest.mark.parametrize("addr", [HEADERS, HEADERS + 4999, SEAL + 16, SEAL + 47, SEAL + 8])
def test_changed_headers_are_named(addr: int) -> None:
    pc = Load(headers=noise(5000)).into(Pc())
    pc.flip(addr)
    assert pc.run() is End.HALTED
    assert pc.text == CHECKING + "pykexec: headers do not match\r\n" + HALTED


def test_headers_that_were_never_bound_are_named() -> None:
    pc, end = run(Load(headers=noise(5000), bound=False))
    assert end is End.HALTED
    assert pc.text == CHECKING + "pykexec: headers were never bound\r\n" + HALTED


def test_the_headers_are_sealed_without_any_records_too() -> None:
    pc = Load(regions={}, exchanges=(), headers=noise(100)).into(Pc())
    pc.flip(HEADERS)
    assert pc.run() is End.HALTED


def test_no_checks_means_none() -> None:
    load = Load(flags=StubFlag.NO_CHECKS, headers=noise(100), bound=False)
    pc = load.into(Pc())
    pc.flip(next(iter(load.regions)))
    pc.flip(STUB + TABLES_SHA256)
    before = pc.read(LOW, 0x2000), pc.read(HIGH + 0x10000, 0x2000)
    assert pc.run() is End.STARTED
    assert pc.text == "\r\npykexec: not checking\r\n" + STARTING
    assert before == (pc.read(HIGH + 0x10000, 0x2000), pc.read(LOW, 0x2000))


# -- faults


@pytest.mark.parametrize(("reset_seconds", "end"), [(0, End.HALTED), (1, End.RESET_CF9)])
def test_tables_in_memory_that_is_not_there(reset_seconds: int, end: End) -> None:
    pc = Load(reset_seconds=reset_seconds).into(Pc())
    pc.write(STUB + PARAMS_OFFSET + 24, struct.pack("<Q", NOT_MAPPED))
    assert pc.run() is end
    assert pc.faults == [14]
    output = pc.text.removeprefix(CHECKING)
    assert output.startswith("pykexec: exception 14 at 0x100")
    assert f", stub at {STUB:#x}, cr2 {NOT_MAPPED:#x}\r\npykexec: kernel not started, " in output


def test_an_exchange_with_memory_that_is_not_there_starts_nothing() -> None:
    pc, end = run(Load(exchanges=((LOW, NOT_MAPPED, 4096),)))
    assert end is End.HALTED
    assert "exception 14" in pc.text


def test_an_address_that_is_not_canonical() -> None:
    pc = Load(headers=noise(64)).into(Pc())
    pc.write(SEAL, struct.pack("<QQ", 0x8000_0000_0000_0000, 64))
    assert pc.run() is End.HALTED
    assert pc.faults == [13]
    assert "exception 13" in pc.text


@pytest.mark.parametrize(("reset_seconds", "end"), [(0, End.HALTED), (1, End.TRIPLE_FAULT)])
def test_a_fault_in_the_handler_ends_without_words(reset_seconds: int, end: End) -> None:
    """The handler itself is faulty: a second fault must not run it again."""
    pc = Load(reset_seconds=reset_seconds).into(Pc())
    pc.write(STUB + PARAMS_OFFSET + 24, struct.pack("<Q", NOT_MAPPED))
    code = pc.read(STUB, STUB_SIZE)
    handler = code.index(b"\xb8\x00\x7d\x22\x60")  # mov $0x60227d00, %eax
    pc.write(STUB + handler, b"\xcc")  # int3
    assert pc.run() is end
    assert pc.faults[:2] == [14, 3]
    assert pc.text == CHECKING


@pytest.mark.parametrize("at", [STUB, HIGH + 0x200000])
@pytest.mark.parametrize("vector", [n for n in range(32) if n != NMI])
def test_every_exception_is_named_with_its_place(vector: int, at: int) -> None:
    pc = Load(at=at).into(Pc())
    place = at + pc.read(at, STUB_SIZE).index(b"\x4c\x8b\x07")  # mov (%rdi), %r8
    pc.interrupt_at(place, vector)
    assert pc.run(at) is End.HALTED
    assert f"pykexec: exception {vector} at {place:#x}, stub at {at:#x}, cr2 0x0\r\n" in pc.text


def test_an_nmi_in_an_exchange_is_let_pass() -> None:
    load = Load(exchanges=((LOW, HIGH, 0x2000),), regions={})
    pc = load.into(Pc())
    pc.write(LOW, noise(0x2000, 5))
    pc.write(HIGH, noise(0x2000, 6))
    code = pc.read(STUB, STUB_SIZE)
    turn = code.index(b"\x4c\x8b\x07")  # mov (%rdi), %r8
    pc.interrupt_at(STUB + turn, NMI, times=3)
    assert pc.run() is End.STARTED
    assert pc.read(LOW, 0x2000) == noise(0x2000, 6)
    assert pc.read(HIGH, 0x2000) == noise(0x2000, 5)


# -- exchanges

ARENA = 0x8000
"""Bytes of each of two arenas, below and above 4 GiB."""


@st.composite
def disjoint_exchanges(draw: st.DrawFn) -> tuple[tuple[int, int, int], ...]:
    """Up to six exchanges of words, anywhere in the two arenas, that do not overlap."""
    sizes = draw(st.lists(st.integers(1, 300).map(lambda n: 8 * n), max_size=6))
    slots = draw(
        st.permutations(
            [LOW + 0x1000 * n for n in range(8)] + [HIGH + 0x1000 * n for n in range(8)]
        )
    )
    shift = draw(st.integers(0, 15))
    return tuple(
        (slots[2 * n] + shift, slots[2 * n + 1] + 15 - shift, size) for n, size in enumerate(sizes)
    )


@settings(max_examples=15)
@given(exchanges=disjoint_exchanges(), seed=st.integers(0, 99))
def test_exchanges_do_what_the_model_does_and_twice_restores(
    exchanges: tuple[tuple[int, int, int], ...], seed: int
) -> None:
    contents = {LOW: noise(ARENA, seed), HIGH: noise(ARENA, seed + 100)}
    model = {base: bytearray(data) for base, data in contents.items()}

    def piece(addr: int, size: int) -> tuple[bytearray, slice]:
        base = HIGH if addr >= HIGH else LOW
        return model[base], slice(addr - base, addr - base + size)

    for dest, source, size in exchanges:
        one, here = piece(dest, size)
        other, there = piece(source, size)
        one[here], other[there] = other[there], one[here]

    load = Load(regions={}, exchanges=exchanges)
    pc = load.into(Pc())
    for base, data in contents.items():
        pc.write(base, data)
    assert pc.run() is End.STARTED
    assert {base: pc.read(base, ARENA) for base in contents} == model
    again = load.into(Pc())
    for base in contents:
        again.write(base, pc.read(base, ARENA))
    assert again.run() is End.STARTED
    assert {base: again.read(base, ARENA) for base in contents} == contents


def test_what_waits_elsewhere_is_checked_there_and_runs_here() -> None:
    """The case of the crash stub: the digest is of the stage, the kernel starts at the
    destination."""
    image, old = noise(0x3000, 7), noise(0x3000, 8)
    stage, dest = HIGH + 0x4000, ENTRY & ~0xFFF
    exchange = Exchange(dest, stage, 0x3000)
    load = Load(
        regions={stage: image}, exchanges=((exchange.dest, exchange.source, exchange.size),)
    )
    pc = Pc()
    pc.write(dest, old)
    pc, end = run(load, pc)
    assert end is End.STARTED
    assert pc.read(dest, 0x3000) == image
    assert pc.read(stage, 0x3000) == old


def test_the_processor_serialises_between_the_exchange_and_the_kernel() -> None:
    pc = Load().into(Pc())
    code = pc.read(STUB, STUB_SIZE)
    turns = pc.passed(STUB + code.index(b"\x4c\x8b\x07"))
    reloads = pc.passed(STUB + code.rindex(b"\x0f\x22\xd8"))  # mov %rax, %cr3
    assert pc.run() is End.STARTED
    assert (len(turns), len(reloads)) == (0x2000 // 32, 1)


# -- the serial port


def test_the_last_character_gets_out_before_the_kernel_clears_the_fifo() -> None:
    """With a UART that accepts everything and never reports that it is empty, the wait is
    bounded."""
    pc, end = run(Load(), Pc(uart_status=0x20))
    assert (end, pc.text) == (End.STARTED, CHECKING + STARTING)
    assert 0x20000 <= pc.reads <= 0x20000 + len(pc.text)


@pytest.mark.parametrize("status", [0xFF, 0x00, 0x40])
@pytest.mark.parametrize("good", [True, False])
def test_a_dead_uart_costs_no_more_than_a_moment(status: int, good: bool) -> None:
    load = Load()
    pc = load.into(Pc(uart_status=status))
    if not good:
        pc.flip(next(iter(load.regions)))
    assert pc.run() is (End.STARTED if good else End.HALTED)
    assert pc.text == ""
    assert pc.reads <= 0x20000


@pytest.mark.parametrize("good", [True, False])
@pytest.mark.parametrize("port", [0x2F8, 0xE010, 0xFFF8])
def test_another_serial_port(good: bool, port: int) -> None:
    """An access to any port of another UART would fail the test."""
    load = Load(serial_port=port)
    pc = load.into(Pc(uart=port))
    if not good:
        pc.flip(next(iter(load.regions)))
    assert pc.run() is (End.STARTED if good else End.HALTED)
    assert pc.text.startswith(CHECKING)
    assert pc.writes == []


@pytest.mark.parametrize("good", [True, False])
def test_serial_port_zero_is_silent(good: bool) -> None:
    load = Load(serial_port=0)
    pc = load.into(Pc())
    if not good:
        pc.flip(next(iter(load.regions)))
    assert pc.run() is (End.STARTED if good else End.HALTED)
    assert (pc.text, pc.reads, pc.writes) == ("", 0, [])


# -- the wait
