"""BTF built from arguments: members of anonymous structures, sizes, and damage."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.dump.faults import DamagedDump, UnknownKernel
from pykexec.dump.types import Types
from pykexec.errors import KexecError
from tests.dump.btf import CONST, ENUM64, UNION, Btf


def built() -> Btf:
    btf = Btf()
    u16, u64 = btf.integer("u16", 2), btf.integer("u64", 8)
    inner = btf.struct("", 16, [("deep", 8, btf.alias("u16_t", btf.alias("", u16, CONST)))])
    union = btf.struct("", 16, [("", 0, inner), ("flat", 0, u64)], UNION)
    named = btf.struct("inner", 24, [("a", 0, u64), ("table", 8, btf.array(u16, 8))])
    btf.struct("outer", 64, [("first", 0, u64), ("", 16, union), ("named", 32, named)])
    btf.fields("bits", 4, [("low", 0, 3, u16), ("high", 3, 5, u16)])
    btf.enum("small", {"ONE": 1, "MINUS": -1})
    btf.enum("large", {"HUGE": 1 << 40}, ENUM64)
    return btf


def test_members() -> None:
    types = Types(built().data)
    assert types.offset("outer.first") == 0
    assert types.offset("outer.deep") == 24
    assert types.offset("outer.flat") == 16
    assert types.offset("outer.named.table") == 40
    assert types.size_of(types.member("outer.named.table").type) == 16
    assert types.size_of(types.member("outer.deep").type) == 2
    assert types.size_of(types.struct("outer")) == 64
    assert (types.member("bits.high").bit, types.member("bits.high").bits) == (3, 5)
    assert types.has("outer.named")
    assert not types.has("outer.missing")


def test_enumerations() -> None:
    types = Types(built().data)
    assert types.enumerators("small") == {"ONE": 1, "MINUS": -1}
    assert types.enumerators("large") == {"HUGE": 1 << 40}


def test_what_is_not_there() -> None:
    types = Types(built().data)
    for ask in (types.struct, types.enumerators):
        with pytest.raises(UnknownKernel, match="missing"):
            ask("missing")
    with pytest.raises(UnknownKernel):
        types.array(types.struct("outer"))


def test_types_that_have_no_end() -> None:
    """A typedef of itself, an array of itself, a structure inside itself."""
    btf = Btf()
    btf.alias("endless", 1)
    btf.array(2, 2)
    btf.struct("nested", 8, [("", 0, 3)])
    types = Types(btf.data)
    for number in (1, 2):
        with pytest.raises(DamagedDump, match="no end"):
            types.size_of(number)
    assert not types.has("nested.member")


@given(at=st.integers(0, 1 << 12), word=st.integers(0, (1 << 32) - 1))
def test_any_word_may_be_wrong(at: int, word: int) -> None:
    data = bytearray(built().data)
    struct.pack_into("<I", data, at % (len(data) - 3), word)
    try:
        types = Types(bytes(data))
        for path in ("outer.deep", "outer.named.table", "bits.high"):
            if types.has(path):
                types.size_of(types.member(path).type)
        types.enumerators("small")
    except KexecError as error:
        assert error.message.startswith("BTF")
