"""The stub's records: values to bytes and back, and what is refused."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pykexec.errors import KexecError
from pykexec.memory.ranges import PhysRange
from pykexec.purgatory import (
    EXCHANGE_SIZE,
    PARAMS_OFFSET,
    REGION_SIZE,
    SEAL_SIZE,
    STUB_MEMSZ,
    STUB_SIZE,
    UNBOUND,
    BadExchange,
    BadStub,
    BadStubParams,
    Exchange,
    Region,
    Seal,
    StubFlag,
    StubParams,
    check_exchanges,
    parse_params,
    parse_seal,
    parse_tables,
    stub_image,
    tables,
)

REGION = Region.of(0x1000, b"kernel")
EXCHANGE = Exchange(0x100000, 0x200000, 0x1000)
ZERO = bytes(32)


def params(**changed: object) -> StubParams:
    values: dict[str, object] = {
        "boot_params": 0x90000,
        "entry": 0x1000200,
        "tables": 0x5000,
        "n_regions": 1,
        "n_exchanges": 2,
        "tables_sha256": bytes(range(32)),
    }
    return StubParams(**(values | changed))  # type: ignore[arg-type]


addresses = st.integers(1, 2**64 - 1)


@given(
    st.builds(
        StubParams,
        boot_params=addresses,
        entry=addresses,
        tables=addresses,
        n_regions=st.integers(0, 2**32 - 1),
        n_exchanges=st.integers(0, 2**32 - 1),
        tables_sha256=st.binary(min_size=32, max_size=32),
        seal=st.integers(0, 2**64 - 1),
        serial_port=st.sampled_from([0, 0x2F8, 0x3F8]),
        flags=st.sampled_from([StubFlag.NONE, StubFlag.NO_CHECKS, StubFlag.IN_USE]),
        reset_seconds=st.integers(0, 2**32 - 1),
        rax=st.integers(0, 2**64 - 1),
        rbx=st.integers(0, 2**64 - 1),
        rdi=st.integers(0, 2**64 - 1),
    )
)
def test_parameters_come_back(given_params: StubParams) -> None:
    image = stub_image(given_params)
    assert len(image) == STUB_SIZE
    assert parse_params(image) == given_params
    assert parse_params(image + bytes(STUB_MEMSZ - STUB_SIZE)) == given_params


def test_what_is_not_linux_needs_no_boot_params() -> None:
    told = params(boot_params=0, rax=0x2BADB002, flags=StubFlag.ENTRY_32)
    assert parse_params(stub_image(told)) == told
    assert told.enters_32
    assert told.checks


def test_tables_come_back() -> None:
    regions = (REGION, Region.of(2**40, b"x" * 5000))
    exchanges = (EXCHANGE, Exchange(0x300000, 2**40, 0x200000))
    records = tables(regions, exchanges)
    assert len(records) == 2 * REGION_SIZE + 2 * EXCHANGE_SIZE
    assert parse_tables(records, 2, 2) == (regions, exchanges)
    assert parse_tables(records + b"more", 2, 2) == (regions, exchanges)
    assert parse_tables(b"", 0, 0) == ((), ())


def test_seals_come_back() -> None:
    seal = Seal.of(0x1234, b"headers")
    assert len(bytes(seal)) == SEAL_SIZE
    assert parse_seal(bytes(seal) + b"more") == seal
    assert parse_seal(bytes(SEAL_SIZE)) == UNBOUND
    assert (seal.bound, UNBOUND.bound) == (True, False)


def test_parameters_with_tables_take_counts_and_digest_from_them() -> None:
    records = tables([REGION], [EXCHANGE])
    made = StubParams(1, 2).with_tables(records, at=0x7000, n_regions=1)
    assert (made.tables, made.n_regions, made.n_exchanges) == (0x7000, 1, 1)
    assert made.tables_sha256 == hashlib.sha256(records).digest()
    assert made.tables_size == len(records)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Exchange(0x1800, 0x3000, 0x1000), "dest 0x1800 is not a multiple of 0x1000"),
        (lambda: Exchange(0x1000, 0x3001, 0x1000), "source 0x3001 is not a multiple of 0x1000"),
        (lambda: Exchange(0x1000, 0x3000, 0x800), "size 0x800 is not a multiple of 0x1000"),
        (lambda: Exchange(0x1000, 0x3000, 0), "is empty"),
        (lambda: Exchange(0x1000, 0x3000, -0x1000), "is empty"),
        (lambda: Exchange(0x1000, 0x1000, 0x1000), "dest 0x1000..0x2000 overlaps source 0x1000.."),
        (lambda: Exchange(0x1000, 0x2000, 0x2000), "dest 0x1000..0x3000 overlaps source 0x2000.."),
        (lambda: Exchange(2**64 - 0x1000, 0, 0x2000), "invalid range of physical addresses"),
        (lambda: Exchange(-0x1000, 0x4000, 0x1000), "invalid range of physical addresses"),
    ],
)
def test_an_exchange_that_makes_no_sense_is_refused(
    make: Callable[[], Exchange], reason: str
) -> None:
    with pytest.raises(BadExchange) as refused:
        make()
    assert reason in refused.value.message
    assert refused.value.exit_status == 2


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (
            Exchange(0x101000, 0x300000, 0x1000),
            "dest of exchange 0 0x100000..0x102000 overlaps dest of exchange 1 0x101000..0x102000",
        ),
        (
            Exchange(0x400000, 0xFF000, 0x2000),
            "source of exchange 1 0xff000..0x101000 overlaps dest of exchange 0 0x100000..0x102000",
        ),
        (
            Exchange(0x201000, 0x400000, 0x1000),
            "source of exchange 0 0x200000..0x202000 overlaps dest of exchange 1 0x201000..",
        ),
    ],
)
def test_exchanges_that_meet_are_refused_and_both_named(second: Exchange, reason: str) -> None:
    first = Exchange(0x100000, 0x200000, 0x2000)
    with pytest.raises(BadExchange) as refused:
        tables([], [first, second])
    assert reason in refused.value.message


def test_exchanges_may_touch() -> None:
    check_exchanges([Exchange(0x1000, 0x2000, 0x1000), Exchange(0x3000, 0, 0x1000)])


def test_what_the_stub_lives_on_is_not_exchanged() -> None:
    with pytest.raises(BadExchange, match=r"source of exchange 0 .* overlaps the tables 0x200800"):
        tables([], [EXCHANGE], keep=[("the tables", PhysRange(0x200800, 0x200900))])


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(1, 3)), max_size=6))
def test_exchanges_pass_when_and_only_when_no_page_is_named_twice(
    pages: list[tuple[int, int, int]],
) -> None:
    named = [p + n for dest, source, size in pages for p in (dest, source) for n in range(size)]
    try:
        check_exchanges([Exchange(d * 4096, s * 4096, n * 4096) for d, s, n in pages])
        passed = True
    except BadExchange:
        passed = False
    assert passed == (len(named) == len(set(named)))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"boot_params": 0}, "boot_params is not set"),
        ({"entry": 0}, "entry is not set"),
        ({"tables": 0}, "tables is not set"),
        ({"entry": 1 << 64}, "entry 0x10000000000000000 is not in"),
        ({"seal": -1}, "seal -0x1 is not in"),
        ({"serial_port": 0xFFFF}, "serial_port 0xffff is not in"),
        ({"reset_seconds": 1 << 32}, "reset_seconds 0x100000000 is not in"),
        ({"n_regions": -1}, "n_regions -0x1 is not in"),
        ({"tables_sha256": b"short"}, "a sha256 has 32 bytes, not 5"),
        ({"flags": StubFlag(8)}, "unknown flags 0x8"),
        ({"rdi": 1 << 64}, "rdi 0x10000000000000000 is not in"),
        ({"flags": StubFlag.ENTRY_32, "entry": 1 << 32}, "entry 0x100000000 is not in 0..0x1"),
        ({"flags": StubFlag.ENTRY_32, "rbx": 1 << 32}, "rbx 0x100000000 is not in 0..0x1"),
    ],
)
def test_parameters_that_have_no_place_are_refused(changed: dict[str, object], reason: str) -> None:
    with pytest.raises(BadStubParams) as refused:
        params(**changed)
    assert reason in refused.value.message


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Region(0, 0, ZERO), "region: invalid range of physical addresses"),
        (lambda: Region(2**64 - 1, 2, ZERO), "region: invalid range of physical addresses"),
        (lambda: Region(0, 1, b""), "a sha256 has 32 bytes, not 0"),
        (lambda: Seal(2**64 - 1, 2, ZERO), "seal: invalid range of physical addresses"),
        (lambda: Seal.of(0x1000, b""), "nothing to seal at 0x1000"),
        (
            lambda: StubParams(1, 1).with_tables(b"x" * 60, at=1, n_regions=1),
            "tables of 60 bytes cannot hold 1 regions",
        ),
    ],
)
def test_records_that_make_no_sense_are_refused(make: Callable[[], object], reason: str) -> None:
    with pytest.raises(BadStubParams) as refused:
        make()
    assert reason in refused.value.message


def test_no_tables_need_no_address() -> None:
    assert params(tables=0, n_regions=0, n_exchanges=0).tables_size == 0


# -- reading records from an untrusted source

GOOD = stub_image(params())


def put(offset: int, value: bytes) -> bytes:
    return GOOD[:offset] + value + GOOD[offset + len(value) :]


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (b"", "not a stub: 0x0 bytes"),
        (GOOD[:-1], "bytes, expected 0x"),
        (b"\x7fELF" + bytes(8192), "not a stub: magic b'\\x00"),
        (put(PARAMS_OFFSET, b"PYKEXEC2"), "magic b'PYKEXEC2', expected b'PYKEXEC1'"),
        (put(PARAMS_OFFSET + 8, bytes(8)), "boot_params is not set"),
        (put(PARAMS_OFFSET + 82, b"\xff"), "unknown flags 0xff"),
        (put(PARAMS_OFFSET + 80, b"\xff\xff"), "serial_port 0xffff"),
        (put(0, b"\x90"), "the stub's code is not that of this pykexec"),
        (put(STUB_SIZE - 1, b"\x90"), "the stub's code is not that of this pykexec"),
    ],
)
def test_what_is_no_stub_of_ours_is_refused(blob: bytes, reason: str) -> None:
    with pytest.raises(BadStub) as refused:
        parse_params(blob)
    assert reason in refused.value.message


def test_another_builds_stub_can_be_read_if_asked() -> None:
    assert parse_params(put(STUB_SIZE - 1, b"\x90"), same_code=False) == params()


@pytest.mark.parametrize(
    ("records", "counts", "reason"),
    [
        (b"x" * 47, (1, 0), "0x2f bytes cannot hold 1 regions and 0 exchanges"),
        (b"x" * 47, (0, 2), "cannot hold 0 regions and 2 exchanges"),
        (b"", (-1, 2), "cannot hold -1 regions"),
        (bytes(48), (1, 0), "region 0: region: invalid range"),
        (
            tables([REGION], []) + struct.pack("<QQQ", 0x1000, 0x2000, 24),
            (1, 1),
            "exchange 0: exchange of 0x1000 with 0x2000 (0x18 bytes) is not in whole pages",
        ),
        (
            tables([], [EXCHANGE]) * 2,
            (0, 2),
            "dest of exchange 0 0x100000..0x101000 overlaps dest of exchange 1",
        ),
    ],
)
def test_tables_that_make_no_sense_are_refused_by_number(
    records: bytes, counts: tuple[int, int], reason: str
) -> None:
    with pytest.raises(BadStub) as refused:
        parse_tables(records, *counts)
    assert reason in refused.value.message


def test_a_short_seal_is_refused() -> None:
    with pytest.raises(BadStub, match="not a seal: 0x2f bytes, expected 0x30"):
        parse_seal(bytes(47))
    with pytest.raises(BadStub, match="seal: invalid range"):
        parse_seal(b"\xff" * 48)


@given(st.binary(max_size=200), st.integers(0, 4), st.integers(0, 4))
@example(b"\xff" * 200, 2, 2)
def test_garbage_is_a_value_or_a_refusal(garbage: bytes, regions: int, exchanges: int) -> None:
    for parse in (
        lambda: parse_seal(garbage),
        lambda: parse_tables(garbage, regions, exchanges),
        lambda: parse_params(garbage),
        lambda: parse_params(put(PARAMS_OFFSET + 8, garbage[:80])),
    ):
        try:
            parse()
        except KexecError as refused:
            message = refused.message
        else:
            message = "a value"
        assert message[0].islower()
        assert "\n" not in message
