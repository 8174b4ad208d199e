"""The parameters of the stub for arm64, from values to bytes and back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pykexec.purgatory import BadStub, BadStubParams, Region, tables
from pykexec.purgatory.arm64.stub import (
    ADDRESS_LIMIT,
    PARAMS_END,
    PARAMS_OFFSET,
    STUB_SIZE,
    StubFlag,
    StubParams,
    UartKind,
    parse_params,
    stub_image,
)

PARAMS = StubParams(
    dtb=0x50000000,
    entry=0x48080000,
    seal=0x123456789000,
    page_tables=0x4F000000,
    window=0x48000000,
    window_size=0x10000000,
    uart=0x09000000,
    uart_kind=UartKind.UART_8250,
    uart_shift=2,
    uart_width=4,
    flags=StubFlag.RESET_SMC,
    reset_seconds=7,
    settle_seconds=10,
).with_tables(tables([Region.of(0x48000000, b"kernel")], ()), at=0x4F008000, n_regions=1)


def test_a_loaded_stub_is_read_back() -> None:
    assert parse_params(stub_image(PARAMS) + bytes(100)) == PARAMS
    assert len(stub_image(PARAMS)) == STUB_SIZE
    assert PARAMS.checks
    assert not replace(PARAMS, flags=StubFlag.NO_CHECKS).checks


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"dtb": 0}, "dtb is not set"),
        ({"entry": 0}, "entry is not set"),
        ({"tables": 0}, "tables is not set"),
        ({"dtb": ADDRESS_LIMIT}, "dtb 0x1000000000000 is not in"),
        ({"window_size": -1}, "window_size"),
        ({"uart_shift": 4}, "uart_shift"),
        ({"uart_width": 8}, "uart_width 8 is not 1, 2 or 4"),
        ({"flags": 16}, "unknown flags 0x10"),
        ({"tables_sha256": b"short"}, "32 bytes"),
    ],
)
def test_values_that_the_stub_cannot_hold(change: dict[str, int], why: str) -> None:
    with pytest.raises(BadStubParams, match=why):
        replace(PARAMS, **change)  # type: ignore[arg-type]


def test_tables_have_whole_records() -> None:
    with pytest.raises(BadStubParams, match="cannot hold"):
        PARAMS.with_tables(bytes(50), at=0x1000, n_regions=1)


@pytest.mark.parametrize("at", [0, PARAMS_OFFSET, PARAMS_END, STUB_SIZE - 1, 128, 140])
def test_a_damaged_stub_is_not_read(at: int) -> None:
    """In the code, the magic, or a value that no stub has: uart_kind and flags."""
    blob = bytearray(stub_image(PARAMS))
    blob[at] ^= 0x40
    with pytest.raises(BadStub):
        parse_params(bytes(blob))


def test_a_short_blob_is_not_read() -> None:
    with pytest.raises(BadStub, match="not a stub"):
        parse_params(stub_image(PARAMS)[:-1])
