"""Blocks compressed by Debian's liblzo2 and libsnappy, and damaged ones."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.dump import lzo, snappy
from pykexec.dump.faults import DamagedDump
from pykexec.dump.page_codecs import unpack_page
from tests.dump import codecs_of_debian

PAGE = 4096
SIZES = (1, 2, 3, 4, 17, 18, 60, 61, 62, 238, 239, 300, PAGE, 65536)


def samples() -> list[bytes]:
    """Noise, runs, text with few letters, and repetitions from near and far."""
    source = random.Random(7)
    found = []
    for size in SIZES:
        found += [source.randbytes(size), bytes(size), bytes(source.choices(b"abcd", k=size))]
        for period in (1, 2, 3, 5, 40, 700, 3000, 20000, 50000):
            found.append((source.randbytes(period) * (size // period + 1))[:size])
    return found


@pytest.mark.parametrize("function", ["lzo1x_1_compress", "lzo1x_999_compress"])
def test_lzo(function: str) -> None:
    for data in samples():
        assert lzo.decompress(codecs_of_debian.lzo(data, function), len(data)) == data


def test_snappy() -> None:
    for data in samples():
        assert snappy.decompress(codecs_of_debian.snappy(data), len(data)) == data


def test_a_literal_of_lzo() -> None:
    """Written by hand: four literals, and the end."""
    assert lzo.decompress(b"\x15abcd\x11\0\0", 4) == b"abcd"


def test_a_copy_of_snappy() -> None:
    """Written by hand: "ab", and six bytes copied from two back."""
    assert snappy.decompress(b"\x08\x04ab\x16\x02\0", 8) == b"abababab"


@pytest.mark.parametrize("flags", [1, 2, 4, 32])
@given(data=st.binary(max_size=200))
def test_anything_is_a_page_or_damaged(flags: int, data: bytes) -> None:
    with suppress(DamagedDump):
        assert len(unpack_page(data, flags, PAGE)) <= PAGE


def test_a_page_is_never_larger() -> None:
    """A decompression bomb stops at the page's end."""
    with pytest.raises(ValueError, match="more than a page"):
        snappy.decompress(b"\xff\xff\xff\x0f" + b"\xfe\x01\0" * 99, PAGE)
    with pytest.raises(ValueError, match="outside of the page"):
        lzo.decompress(b"\x12a\x20" + bytes(99) + b"\xff\0\0", PAGE)
    # A run of 255 * 3000 literals, of which few are present.
    assert len(lzo.decompress(b"\x15abcd\x11\0\0", PAGE)) == 4
