"""Every declared record, against construct, whose declarations look the same."""

from __future__ import annotations

import importlib
import pkgutil
import struct
from collections.abc import Iterator
from random import Random
from typing import Any

import construct
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pykexec.abi
from pykexec.abi.record import Bytes, Const, Int16ul, Int32ul, Record, Struct, Type
from pykexec.abi.x86.bootparam import boot_params, e820_entry, setup_header


def declared() -> Iterator[tuple[str, Struct]]:
    for found in pkgutil.walk_packages(pykexec.abi.__path__, "pykexec.abi."):
        module = importlib.import_module(found.name)
        for name, value in vars(module).items():
            if isinstance(value, Struct):
                yield f"{found.name}.{name}", value


RECORDS = dict(declared())


def in_construct(kind: Type) -> Any:
    if isinstance(kind, Const) and isinstance(kind.value, bytes):
        return construct.Const(kind.value)
    if kind.code.endswith("s"):
        return construct.Bytes(kind.size)
    each = kind.size // (kind.count or 1)
    number = getattr(construct, f"Int{8 * each}u{'b' if kind.order == '>' else 'l'}")
    if isinstance(kind, Const):
        return construct.Const(kind.value, number)
    return number if kind.count is None else number[kind.count]


def theirs(record: Struct) -> Any:
    return construct.Struct(*(item.name / in_construct(item.kind) for item in record.fields))


def with_constants(record: Struct, data: bytes) -> bytes:
    """The bytes, with what a constant must have in its place."""
    raw, at = bytearray(data), 0
    for item in record.fields:
        if isinstance(item.kind, Const):
            value = item.kind.value
            size = item.kind.size
            raw[at : at + size] = value if isinstance(value, bytes) else value.to_bytes(size)
        at += item.kind.size
    return bytes(raw)


def test_there_are_records() -> None:
    assert len(RECORDS) > 30


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_is_that_of_construct(name: str) -> None:
    record = RECORDS[name]
    reference = theirs(record)
    size = record.sizeof()
    assert size == reference.sizeof()

    @given(st.integers(), st.binary(max_size=3))
    def same(seed: int, behind: bytes) -> None:
        raw = with_constants(record, Random(seed).randbytes(size)) + behind
        found, expected = record.parse(raw), reference.parse(raw)
        assert dict(found) == {key: expected[key] for key in found}
        assert record.build(found) == reference.build(dict(found)) == raw[:size]

    same()


def test_a_field_is_an_attribute() -> None:
    found = e820_entry.parse(bytes(range(20)))
    found.type = 5
    found["size"] = 3
    assert (found.type, found.size) == (5, 3)
    assert e820_entry.build(found)[8:] == struct.pack("<QI", 3, 5)
    for wrong in ("kind", "_type"):
        with pytest.raises(AttributeError):
            getattr(found, wrong)
        with pytest.raises(AttributeError):
            setattr(found, wrong, 1)


def test_no_field_has_the_name_of_a_method() -> None:
    fields = {item.name for record in RECORDS.values() for item in record.fields}
    assert not fields & set(dir(Record()))


def test_what_does_not_fit_is_an_error() -> None:
    with pytest.raises(struct.error):
        e820_entry.parse(bytes(19))
    with pytest.raises(KeyError):
        e820_entry.build({"addr": 0, "size": 0})
    with pytest.raises(struct.error):
        e820_entry.build({"addr": 0, "size": 0, "type": 1 << 32})
    with pytest.raises(ValueError, match="3 bytes instead of 2"):
        setup_header.build(setup_header.parse(bytes(256)) | {"jump": bytes(3)})
    with pytest.raises(ValueError, match="instead of"):
        boot_params.parse(b"\xff" * 4096)
    numbers = Struct("a" / Int16ul[2], "b" / Const(7, Int32ul), "c" / Bytes(1))
    assert numbers.build({"a": [1, 2], "c": b"x"}) == b"\1\0\2\0\7\0\0\0x"
    with pytest.raises(ValueError, match="1 values instead of 2"):
        numbers.build({"a": [1], "c": b"x"})
