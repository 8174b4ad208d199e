"""The stub for arm64, executed with the MMU off: it starts the kernel if everything matches, and in
no other case."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field, replace

import pytest

pytest.importorskip("unicorn", reason="unicorn is not installed: the stub cannot be executed")

from hypothesis import given, settings
from hypothesis import strategies as st
from unicorn import UC_HOOK_CODE

from pykexec.purgatory import REGION_SIZE, UNBOUND, Region, Seal, sha256, tables
from pykexec.purgatory.arm64.stub import (
    PARAMS_OFFSET,
    STUB_MEMSZ,
    STUB_SIZE,
    StubFlag,
    StubParams,
    UartKind,
    stub_image,
)

from .emulated import DTB, ENTRY, NOT_MAPPED, RAM, SEAL, STUB, TABLES, UART, Board, End

LOW, HIGH = 0x40400000, RAM[1][0]
HEADERS = 0x40500000
CHECKING, STARTING = "\r\npykexec: checking\r\n", "pykexec: starting\r\n"
HALTED = "pykexec: kernel not started, halted\r\n"
TABLES_SHA256 = PARAMS_OFFSET + 40


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


PARAMS = StubParams(dtb=DTB, entry=ENTRY, uart=UART, uart_kind=UartKind.PL011, uart_width=4)


@dataclass
class Load:
    """A stub with everything that belongs to it, placed in a machine."""

    regions: dict[int, bytes] = field(
        default_factory=lambda: {
            LOW + 8: noise(1000, 1),
            HIGH: noise(4096, 2),
            LOW + 0x10000: noise(64, 3),
        }
    )
    exchanges: tuple[tuple[int, int, int], ...] = ((LOW, HIGH + 0x10000, 0x2000),)
    headers: bytes | None = None
    bound: bool = True
    at: int = STUB
    params: StubParams = PARAMS

    def into(self, board: Board) -> Board:
        regions = [Region.of(addr, contents) for addr, contents in self.regions.items()]
        for addr, contents in self.regions.items():
            board.write(addr, contents)
        # exchanges encoded by hand: the stub accepts any multiple of 8, the builder only pages
        records = tables(regions, ()) + b"".join(struct.pack("<QQQ", *e) for e in self.exchanges)
        board.write(TABLES, records)
        if self.headers is not None:
            board.write(HEADERS, self.headers)
            board.write(SEAL, bytes(Seal.of(HEADERS, self.headers) if self.bound else UNBOUND))
        params = replace(self.params, seal=0 if self.headers is None else SEAL)
        params = params.with_tables(records, at=TABLES if records else 0, n_regions=len(regions))
        board.write(self.at, stub_image(params))
        # memory after the blob need not be zero
        board.write(self.at + STUB_SIZE, b"\xa5" * (STUB_MEMSZ - STUB_SIZE))
        return board


def run(load: Load, board: Board | None = None) -> tuple[Board, End]:
    board = load.into(board or Board())
    end = board.run(load.at)
    assert board.own_writes == [], "the stub writes to its own code"
    assert board.wrong_accesses == []
    return board, end


def with_params(**changes: object) -> Load:
    return Load(params=replace(PARAMS, **changes))  # type: ignore[arg-type]


# -- it starts


@pytest.mark.parametrize("sha2", [0, 1, 2])
@pytest.mark.parametrize("at", [STUB, RAM[0][0], HIGH + 0x201000])
def test_a_matching_load_starts_the_kernel_as_booting_rst_wants(at: int, sha2: int) -> None:
    board, end = run(Load(at=at, headers=noise(5000)), Board(sha2=sha2))
    assert end is End.STARTED
    assert board.text == CHECKING + STARTING
    assert board.faults == 0
    assert [board.register(f"X{n}") for n in range(4)] == [DTB, 0, 0, 0]
    assert board.register("PSTATE") & 0x3C0 == 0x3C0, "all interrupts are masked"


def test_sha_instructions_are_used_where_they_work() -> None:
    """In streaming mode, which SME has, there are none."""
    for sha2, sme, used in ((0, 0, False), (1, 0, True), (2, 0, True), (1, 1, False)):
        board = Load().into(Board(sha2=sha2, sme=sme))
        code = board.read(STUB, STUB_SIZE)
        blocks = board.passed(
            STUB + code.index(bytes.fromhex("2040115e"))
        )  # sha256h q0, q1, v17.4s
        assert board.run() is End.STARTED
        assert bool(blocks) is used, (sha2, sme)


def test_no_records_at_all_need_no_tables() -> None:
    board, end = run(Load(regions={}, exchanges=()))
    assert (end, board.text) == (End.STARTED, CHECKING + STARTING)


def test_only_exchanges_or_only_regions() -> None:
    for load in (Load(regions={}), Load(exchanges=())):
        board, end = run(load)
        assert (end, board.text) == (End.STARTED, CHECKING + STARTING)


@pytest.mark.parametrize("sha2", [0, 1])
def test_the_digest_is_sha256_at_every_length_that_pads_differently(sha2: int) -> None:
    lengths = [*range(1, 201), 255, 256, 257, 1000, 4095, 4096, 4097]
    regions = {LOW + 0x2000 * n + n % 9 * 8: noise(size, size) for n, size in enumerate(lengths)}
    board, end = run(Load(regions=regions, exchanges=()), Board(sha2=sha2))
    assert (end, board.text) == (End.STARTED, CHECKING + STARTING)


def test_the_digest_of_nothing() -> None:
    board = Load(regions={LOW: b"x"}, exchanges=()).into(Board())
    record = struct.pack("<QQ32s", LOW, 0, sha256(b""))
    board.write(TABLES, record)
    board.write(STUB + TABLES_SHA256, sha256(record))
    assert board.run() is End.STARTED


@pytest.mark.parametrize("sha2", [0, 1])
@pytest.mark.parametrize("length", [1, 55, 56, 57, 63, 64, 65, 119, 120, 128])
@pytest.mark.parametrize("where", ["first", "last"])
def test_every_byte_of_a_region_counts(length: int, where: str, sha2: int) -> None:
    board = Load(regions={LOW: noise(length)}, exchanges=()).into(Board(sha2=sha2))
    board.flip(LOW if where == "first" else LOW + length - 1)
    assert board.run() is End.HALTED


# -- it does not start


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_changed_region_is_named_and_nothing_is_started_or_moved(number: int) -> None:
    load = Load()
    addr = list(load.regions)[number]
    board = load.into(Board())
    board.flip(addr + 50)
    before = board.read(LOW, 0x20000), board.read(HIGH, 0x20000)
    assert board.run() is End.HALTED
    wrong = f"pykexec: region {number} at {addr:#x} does not match\r\n"
    assert board.text == CHECKING + wrong + HALTED
    assert before == (board.read(LOW, 0x20000), board.read(HIGH, 0x20000))


def test_the_number_of_a_region_is_decimal() -> None:
    regions = {LOW + 64 * n: noise(64, n) for n in range(120)}
    board = Load(regions=regions, exchanges=()).into(Board())
    board.flip(LOW + 64 * 109)
    assert board.run() is End.HALTED
    assert f"region 109 at {LOW + 64 * 109:#x} does not" in board.text


@pytest.mark.parametrize(
    ("what", "addr"),
    [
        ("a region's address", TABLES),
        ("a region's digest", TABLES + 16),
        ("an exchange's dest", TABLES + 3 * REGION_SIZE),
        ("the last byte", TABLES + 3 * REGION_SIZE + 23),
        *((f"byte {n} of the digest", STUB + TABLES_SHA256 + n) for n in (0, 8, 16, 24, 31)),
        ("n_regions", STUB + PARAMS_OFFSET + 32),
        ("n_exchanges", STUB + PARAMS_OFFSET + 36),
    ],
)
def test_changed_tables_are_not_used(what: str, addr: int) -> None:
    board = Load().into(Board())
    board.flip(addr)
    assert board.run() is End.HALTED, what
    assert board.text == CHECKING + "pykexec: tables do not match\r\n" + HALTED


@pytest.mark.parametrize("addr", [HEADERS, HEADERS + 4999, SEAL + 16, SEAL + 47, SEAL + 8])
def test_changed_headers_are_named(addr: int) -> None:
    board = Load(headers=noise(5000)).into(Board())
    board.flip(addr)
    assert board.run() is End.HALTED
    assert board.text == CHECKING + "pykexec: headers do not match\r\n" + HALTED


def test_headers_that_were_never_bound_are_named() -> None:
    board, end = run(Load(headers=noise(5000), bound=False))
    assert end is End.HALTED
    assert board.text == CHECKING + "pykexec: headers were never bound\r\n" + HALTED


def test_no_checks_means_none() -> None:
    load = with_params(flags=StubFlag.NO_CHECKS)
    load.headers, load.bound = noise(100), False
    board = load.into(Board())
    board.flip(next(iter(load.regions)))
    board.flip(STUB + TABLES_SHA256)
    before = board.read(LOW, 0x2000), board.read(HIGH + 0x10000, 0x2000)
    assert board.run() is End.STARTED
    assert board.text == "\r\npykexec: not checking\r\n" + STARTING
    assert before == (board.read(HIGH + 0x10000, 0x2000), board.read(LOW, 0x2000))


# -- devices that were not stopped

AGAIN = "pykexec: checking again\r\n"
PLACE, STAGE = ENTRY & ~0xFFF, HIGH + 0x4000
MOVED = (PLACE, PLACE + 0x8000, PLACE + 0x8068, LOW)
"""Where each region of `moved_load` is after the exchanges."""


def moved_load() -> Load:
    """Three regions in a stage of two pages, which go to the kernel's place and elsewhere, and one
    that stays where it is."""
    return Load(
        regions={
            STAGE: noise(4096, 1),
            STAGE + 0x2000: noise(100, 2),
            STAGE + 0x2068: noise(2000, 3),
            LOW: noise(700, 4),
        },
        exchanges=((PLACE, STAGE, 0x1000), (PLACE + 0x8000, STAGE + 0x2000, 0x1000)),
        params=replace(PARAMS, flags=StubFlag.IN_USE),
    )


def test_regions_are_checked_again_where_the_exchanges_moved_them() -> None:
    board, end = run(moved_load())
    assert (end, board.text) == (End.STARTED, CHECKING + AGAIN + STARTING)


@pytest.mark.parametrize("number", range(4))
def test_what_a_device_writes_during_the_exchange_is_not_started(number: int) -> None:
    board = moved_load().into(Board())
    words = struct.unpack(f"<{STUB_SIZE // 4}I", board.read(STUB, STUB_SIZE))
    (second,) = [n for n, word in enumerate(words) if word & 0xFF00001F == 0x18000015]
    at = STUB + 4 * second  # ldr w21, p_n_exchanges
    board.uc.hook_add(UC_HOOK_CODE, lambda *_: board.flip(MOVED[number] + 50), begin=at, end=at)
    assert board.run() is End.HALTED
    wrong = f"pykexec: region {number} at {MOVED[number]:#x} does not match\r\n"
    assert board.text == CHECKING + AGAIN + wrong + HALTED


def test_no_checks_means_no_second_ones() -> None:
    load = moved_load()
    load.params = replace(PARAMS, flags=StubFlag.IN_USE | StubFlag.NO_CHECKS)
    board, end = run(load)
    assert (end, board.text) == (End.STARTED, "\r\npykexec: not checking\r\n" + STARTING)


# -- faults


@pytest.mark.parametrize(("seconds", "end"), [(0, End.HALTED), (1, End.RESET_SMC)])
def test_tables_in_memory_that_is_not_there(seconds: int, end: End) -> None:
    load = with_params(reset_seconds=seconds, flags=StubFlag.RESET_SMC)
    board = load.into(Board())
    board.write(STUB + PARAMS_OFFSET + 24, struct.pack("<Q", NOT_MAPPED))
    assert board.run() is end
    assert board.faults == 1
    output = board.text.removeprefix(CHECKING)
    assert output.startswith("pykexec: exception 4 at 0x4010")
    assert f", stub at {STUB:#x}, esr 0x96000010, far {NOT_MAPPED:#x}\r\n" in output


def test_an_exchange_with_memory_that_is_not_there_starts_nothing() -> None:
    board, end = run(Load(exchanges=((LOW, NOT_MAPPED, 4096),)))
    assert end is End.HALTED
    assert "exception 4" in board.text


@pytest.mark.parametrize("vector", range(16))
def test_every_vector_reports_itself(vector: int) -> None:
    board = with_params().into(Board())
    board.write(STUB + PARAMS_OFFSET + 24, struct.pack("<Q", NOT_MAPPED))
    board.vector = vector
    assert board.run() is End.HALTED
    assert f"pykexec: exception {vector} at 0x" in board.text


@pytest.mark.parametrize(("seconds", "end"), [(0, End.HALTED), (1, End.RESET_HVC)])
def test_a_fault_in_the_handler_ends_without_words(seconds: int, end: End) -> None:
    load = with_params(reset_seconds=seconds, flags=StubFlag.RESET_HVC)
    board = load.into(Board())
    board.write(STUB + PARAMS_OFFSET + 24, struct.pack("<Q", NOT_MAPPED))
    reports = board.read(STUB, STUB_SIZE).index(bytes.fromhex("005238d5"))  # mrs x0, esr_el1
    board.write(STUB + reports, struct.pack("<I", 0xF9400000 | 22 << 5))  # ldr x0, [x22]: address 0
    assert board.run() is end
    assert board.faults == 2
    assert board.text.startswith(CHECKING + "pykexec: exception 4 at ")
    assert "kernel not started" not in board.text


def test_a_hypervisor_call_that_faults_ends() -> None:
    """There is no hypervisor: the fault must not call it again."""
    load = with_params(reset_seconds=1, flags=StubFlag.RESET_HVC)
    board = load.into(Board(psci_missing=True))
    board.flip(next(iter(load.regions)))
    assert board.run() is End.HALTED
    assert (board.faults, len(board.calls)) == (1, 1)


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
    shift = 8 * draw(st.integers(0, 15))
    return tuple(
        (slots[2 * n] + shift, slots[2 * n + 1] + 120 - shift, size) for n, size in enumerate(sizes)
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
    board = load.into(Board())
    for base, data in contents.items():
        board.write(base, data)
    assert board.run() is End.STARTED
    assert {base: board.read(base, ARENA) for base in contents} == model
    again = load.into(Board())
    for base in contents:
        again.write(base, board.read(base, ARENA))
    assert again.run() is End.STARTED
    assert {base: again.read(base, ARENA) for base in contents} == contents


def test_regions_exchanges_and_the_window_are_cleaned_at_first_and_at_last() -> None:
    """Every line of them: between the check of the tables and that of the regions, because the MMU
    is off, and after the last exchange."""
    load = with_params(window=LOW + 0x100000, window_size=0x1000)
    board = load.into(Board())
    cleaned = board.cleaned()
    assert board.run() is End.STARTED
    spans = [(addr, len(contents)) for addr, contents in load.regions.items()]
    spans += [(LOW, 0x2000), (HIGH + 0x10000, 0x2000), (LOW + 0x100000, 0x1000)]
    for addr, size in spans:
        lines = set(range(addr & ~63, addr + size, 64))
        assert lines <= cleaned.at_first, hex(addr)
        assert lines <= cleaned.at_last, hex(addr)


# -- the serial port

UARTS = [
    (UartKind.PL011, 0, 4),
    (UartKind.PL011, 0, 2),
    *((UartKind.UART_8250, shift, width) for shift, width in ((0, 1), (1, 2), (2, 4), (2, 1))),
]


@pytest.mark.parametrize(("kind", "shift", "width"), UARTS)
@pytest.mark.parametrize("good", [True, False])
def test_uarts_of_both_kinds(kind: UartKind, shift: int, width: int, good: bool) -> None:
    load = with_params(uart_kind=kind, uart_shift=shift, uart_width=width, uart=UART + 0x400)
    board = Board(uart=UART + 0x400, kind=kind, shift=shift, width=width)
    load.into(board)
    if not good:
        board.flip(next(iter(load.regions)))
    assert board.run() is (End.STARTED if good else End.HALTED)
    assert board.text.startswith(CHECKING)
    assert board.wrong_accesses == []


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        *((UartKind.PL011, status) for status in (0x20, 0xFF, 0x3FF)),
        *((UartKind.UART_8250, status) for status in (0, 0x40, 0xFF)),
    ],
)
@pytest.mark.parametrize("good", [True, False])
def test_a_dead_uart_costs_no_more_than_a_moment(kind: UartKind, status: int, good: bool) -> None:
    load = with_params(uart_kind=kind, uart_shift=2)
    board = load.into(Board(kind=kind, shift=2, uart_status=status, polls=500))
    if not good:
        board.flip(next(iter(load.regions)))
    assert board.run() is (End.STARTED if good else End.HALTED)
    assert board.text == ""
    assert 0 < board.reads <= 500


@pytest.mark.parametrize(("kind", "status"), [(UartKind.PL011, 0x08), (UartKind.UART_8250, 0x20)])
def test_the_last_character_gets_out_before_the_kernel_clears_the_fifo(
    kind: UartKind, status: int
) -> None:
    """With a UART that accepts everything and never reports that it is empty, the wait is
    bounded."""
    load = with_params(uart_kind=kind, uart_shift=2)
    board, end = run(load, Board(kind=kind, shift=2, uart_status=status, polls=500))
    assert (end, board.text) == (End.STARTED, CHECKING + STARTING)
    assert board.reads == 500 + len(board.text)


@pytest.mark.parametrize("good", [True, False])
def test_a_uart_that_aborts_is_given_up(good: bool) -> None:
    load = Load()
    board = load.into(Board(uart_missing=True))
    if not good:
        board.flip(next(iter(load.regions)))
    assert board.run() is (End.STARTED if good else End.HALTED)
    assert (board.text, board.reads, board.faults) == ("", 1, 1)


@pytest.mark.parametrize("good", [True, False])
def test_no_uart_is_silent(good: bool) -> None:
    load = with_params(uart=0)
    board = load.into(Board())
    if not good:
        board.flip(next(iter(load.regions)))
    assert board.run() is (End.STARTED if good else End.HALTED)
    assert (board.text, board.reads) == ("", 0)


# -- the wait, and the reset

WAITING = "pykexec: waiting {} s for devices {}\r\n"


def test_the_wait_is_between_the_checks_and_the_exchange() -> None:
    board = with_params(settle_seconds=3).into(Board(frequency=1000, counter=lambda n: n))
    turns = board.passed(STUB + board.read(STUB, STUB_SIZE).index(bytes.fromhex("041440a9")))
    during: list[int] = []
    board.at_character = (b".", lambda: during.append(len(turns)))
    assert board.run() is End.STARTED
    assert board.text == CHECKING + WAITING.format(3, "...") + STARTING
    assert during == [0, 0, 0]
    assert len(turns) == 0x2000 // 32
    assert board.looks == 3 * 1001


@pytest.mark.parametrize(
    ("what", "frequency", "counter"),
    [
        ("stands still from the start", 1000, lambda n: 7),
        ("stops", 1000, lambda n: min(n, 30)),
        ("goes back", 1000, lambda n: 1 << 40 if n < 30 else n),
        ("has no frequency", 0, lambda n: n),
    ],
)
def test_a_counter_that_fails_is_given_up(what: str, frequency: int, counter: object) -> None:
    board = Board(frequency=frequency, counter=counter, polls=500)  # type: ignore[arg-type]
    board, end = run(with_params(settle_seconds=2), board)
    assert end is End.STARTED, what
    assert board.text == CHECKING + WAITING.format(2, "..") + STARTING
    assert board.looks <= 531, "the second second does not try it again"


def test_a_counter_that_crawls_ends() -> None:
    board = Board(frequency=1 << 31, counter=lambda n: n, polls=500)
    board, end = run(with_params(settle_seconds=1), board)
    assert end is End.STARTED
    assert board.looks == 500


def test_what_does_not_match_is_not_waited_for() -> None:
    load = with_params(settle_seconds=5)
    board = load.into(Board())
    board.flip(next(iter(load.regions)))
    assert board.run() is End.HALTED
    assert "waiting" not in board.text


@pytest.mark.parametrize(
    ("flag", "end"),
    [(StubFlag.RESET_HVC, End.RESET_HVC), (StubFlag.RESET_SMC, End.RESET_SMC)],
)
@pytest.mark.parametrize("seconds", [1, 3])
def test_a_mismatch_resets_after_the_delay(flag: StubFlag, end: End, seconds: int) -> None:
    load = with_params(reset_seconds=seconds, flags=flag)
    board = load.into(Board(frequency=1000, counter=lambda n: n))
    board.flip(next(iter(load.regions)))
    assert board.run() is end
    assert board.text.endswith(f"pykexec: kernel not started, reset in {seconds} s\r\n")
    assert board.looks == 1001 * seconds


@pytest.mark.parametrize("flag", [StubFlag.NONE, StubFlag.RESET_HVC, StubFlag.RESET_SMC])
def test_a_reset_that_fails_halts(flag: StubFlag) -> None:
    load = with_params(reset_seconds=1, flags=flag)
    board = load.into(Board(psci_works=False))
    board.flip(next(iter(load.regions)))
    assert board.run() is End.HALTED
    assert board.text.endswith("reset in 1 s\r\npykexec: reset failed, halted\r\n")
    assert len(board.calls) == (flag is not StubFlag.NONE)
