"""The contents of an initrd, and how much memory they will take."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykexec.errors import KexecError
from pykexec.images.contents import OpenFile
from pykexec.images.cpio import NotAnInitrd
from pykexec.images.initrd import (
    Archive,
    Initrd,
    looks_like_initrd,
    read_initrd,
)
from tests.builders import MIB, make_bzimage, make_cpio, pack, write

CPIO = make_cpio(("init", b"#!/bin/sh\n"), ("bin/busybox", bytes(5000)))
EARLY = make_cpio(("kernel/x86/microcode/GenuineIntel.bin", bytes(2048)))


def found(tmp_path: Path, data: bytes, limit: int = 1 << 30) -> Initrd:
    file = OpenFile(write(tmp_path, "initrd", data))
    assert looks_like_initrd(file)
    return read_initrd(file, limit)


def test_a_plain_archive(tmp_path: Path) -> None:
    initrd = found(tmp_path, CPIO + bytes(512))
    assert initrd.archives == (Archive(0, None, len(CPIO), 2),)
    assert (initrd.size, initrd.unpacked) == (len(CPIO) + 512, len(CPIO))


@pytest.mark.parametrize("codec", ["gzip", "xz", "zstd", "lz4 (legacy)", "bzip2", "lzma"])
def test_microcode_and_a_compressed_archive(tmp_path: Path, codec: str) -> None:
    start = -(-len(EARLY) // 512) * 512
    initrd = found(tmp_path, EARLY.ljust(start, b"\0") + pack(CPIO, codec))
    assert initrd.archives == (
        Archive(0, None, len(EARLY), 1),
        Archive(start, codec, len(CPIO), None),
    )
    assert initrd.unpacked == len(EARLY) + len(CPIO)


def test_a_bomb_is_cut_off_and_said(tmp_path: Path) -> None:
    initrd = found(tmp_path, pack(make_cpio(("zeros", bytes(40 * MIB))), "gzip"), MIB)
    (archive,) = initrd.archives
    assert not archive.complete
    assert MIB < archive.unpacked <= 16 * MIB


def test_a_kernel_is_no_initrd(tmp_path: Path) -> None:
    for data in (make_bzimage(), pack(make_bzimage(), "gzip"), b"", b"\0" * 100):
        assert not looks_like_initrd(OpenFile(write(tmp_path, "k", data)))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (CPIO[:-60], "the archive at 0x0 ends early, without TRAILER!!!"),
        (CPIO[:300], "the entry at 0x80 extends past the end of the file"),
        (CPIO + b"junk", f"neither cpio nor compressed at {len(CPIO):#x}"),
        (b"070701" + b"zz" * 60, "a cpio header at 0x0 is damaged"),
        (CPIO[:54] + b"-0000080" + CPIO[62:], "a cpio header at 0x0 is damaged"),
        (CPIO[:-124] + bytes(200), f"no cpio header at {len(CPIO) - 124:#x}, found "),
        (
            EARLY + pack(b"no archive", "gzip"),
            f"the gzip stream at {len(EARLY):#x} contains no cpio",
        ),
    ],
)
def test_a_damaged_one(tmp_path: Path, data: bytes, reason: str) -> None:
    path = write(tmp_path, "initrd", data)
    with pytest.raises(NotAnInitrd) as caught:
        read_initrd(OpenFile(path))
    assert caught.value.message.startswith(f"{path}: {reason}")


@settings(max_examples=200)
@given(
    st.sampled_from([CPIO, EARLY + pack(CPIO, "gzip")]),
    st.lists(st.tuples(st.integers(0, 6000), st.integers(0, 255)), max_size=5),
    st.integers(0, 8000),
)
def test_any_damage_is_a_typed_error(
    tmp_path: Path, good: bytes, changes: list[tuple[int, int]], keep: int
) -> None:
    raw = bytearray(good)
    for at, value in changes:
        raw[at % len(raw)] = value
    path = write(tmp_path, "initrd", bytes(raw[:keep]))
    try:
        read_initrd(OpenFile(path))
    except KexecError as error:
        assert error.message.startswith(str(path))
