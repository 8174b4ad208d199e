"""Compresses with Debian's liblzo2 and libsnappy, for tests of unpacking."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import pytest

from tests.vm.debian import Unavailable, package_tree

LZO_MEMORY = 14 * 16384 * 8
"""LZO1X_999_MEM_COMPRESS, which is more than lzo1x_1 needs."""


@cache
def library(package: str, name: str) -> ctypes.CDLL:
    """Load a library; skips the test if it is not available."""
    try:
        tree: Path = package_tree("bookworm", package)
    except Unavailable as unavailable:
        pytest.skip(unavailable.reason)
    return ctypes.CDLL(str(next(tree.rglob(name))))


def lzo(data: bytes, function: str = "lzo1x_1_compress") -> bytes:
    out = ctypes.create_string_buffer(len(data) * 2 + 1024)
    size = ctypes.c_ulong(len(out))
    work = ctypes.create_string_buffer(LZO_MEMORY)
    packer = library("liblzo2-2", "liblzo2.so.2")[function]
    assert packer(data, ctypes.c_ulong(len(data)), out, ctypes.byref(size), work) == 0
    return out.raw[: size.value]


def snappy(data: bytes) -> bytes:
    out = ctypes.create_string_buffer(len(data) * 2 + 1024)
    size = ctypes.c_size_t(len(out))
    packer = library("libsnappy1v5", "libsnappy.so.1").snappy_compress
    assert packer(data, ctypes.c_size_t(len(data)), out, ctypes.byref(size)) == 0
    return out.raw[: size.value]
