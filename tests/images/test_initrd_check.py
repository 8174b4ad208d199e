"""Faults of a file that is given as an initrd, and the kernels whose modules are in it."""

from __future__ import annotations

import random
import struct
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykexec.errors import KexecError
from pykexec.images import initrd_check
from pykexec.images.codecs import codec_of
from pykexec.images.contents import OpenFile, joined_initrd
from pykexec.images.initrd_check import Examined, Fault, examine
from pykexec.images.stream_end import ends_well
from tests.builders import (
    MIB,
    make_arm64_image,
    make_bzimage,
    make_cpio,
    make_elf,
    make_uimage,
    make_uki,
    pack,
    write,
)
from tests.images.fixtures import FIXTURES

OURS = "6.1.0-test"
CODECS = ["gzip", "xz", "zstd", "lz4 (legacy)", "bzip2", "lzma"]
NOISE = random.Random(1).randbytes(300_000)
MODULES = (
    ("init", b"#!/bin/sh\n"),
    ("usr/lib/modules/6.1.0-test/modules.dep", b""),
    ("usr/lib/modules/6.1.0-test/kernel/a.ko", NOISE),
)
EARLY = make_cpio(("kernel/x86/microcode/GenuineIntel.bin", bytes(2048)))


def to_block(archive: bytes) -> bytes:
    """Pad as cpio does."""
    return archive.ljust(-(-len(archive) // 512) * 512, b"\0")


MAIN = to_block(make_cpio(*MODULES))


def examined(folder: Path, *files: bytes, wanted: str | None = OURS) -> Examined:
    paths = [write(folder, f"i{number}", data) for number, data in enumerate(files)]
    initrd = joined_initrd(paths)
    assert initrd
    return examine(initrd, wanted)


def fault(folder: Path, data: bytes) -> Fault:
    (found,) = examined(folder, data).faults
    return found


@pytest.mark.parametrize("codec", [None, *CODECS])
@pytest.mark.parametrize("early", [b"", to_block(EARLY)])
def test_modules_are_found_through_every_compression(
    tmp_path: Path, codec: str | None, early: bytes
) -> None:
    found = examined(tmp_path, early + (pack(MAIN, codec) if codec else MAIN))
    assert (found.releases, found.faults, found.unread) == ({OURS}, [], [])


@pytest.mark.parametrize(
    ("name", "mode", "release"),
    [
        ("lib/modules/5.10.1/kernel", 0o040755, "5.10.1"),
        ("./usr/lib/modules/5.10.1/a", 0o100644, "5.10.1"),
        ("/lib/modules/5.10.1", 0o040755, "5.10.1"),
        ("lib/modules/5.10.1", 0o100644, None),
        ("lib/modules", 0o040755, None),
        ("lib/modules/extra/a.ko", 0o100644, None),
        ("lib/modules/6.1/a.ko", 0o100644, "6.1"),
        ("opt/lib/modules/5.10.1/a", 0o100644, None),
        ("usr/lib/modules-load.d/a", 0o100644, None),
    ],
)
def test_which_names_are_modules(tmp_path: Path, name: str, mode: int, release: str | None) -> None:
    archive = make_cpio((name, b"")).replace(b"000081A4", b"%08X" % mode, 1)
    assert examined(tmp_path, archive).releases == ({release} if release else set())


def test_every_file_is_looked_at(tmp_path: Path) -> None:
    other = make_cpio(("lib/modules/5.10.1/a", b""))
    found = examined(tmp_path, pack(other, "gzip"), pack(MAIN, "xz"))
    assert found.releases == {"5.10.1", OURS}
    assert [Path(name).name for name in found.names] == ["i0", "i1"]


def test_reading_stops_where_the_release_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And after MAX_SCANNED bytes: then the releases are unknown."""
    late = to_block(make_cpio(("noise", NOISE), ("more", NOISE), *MODULES))
    assert examined(tmp_path, pack(late, "gzip")).releases == {OURS}
    monkeypatch.setattr(initrd_check, "MAX_SCANNED", 100_000)
    found = examined(tmp_path, pack(late, "gzip"))
    assert (found.releases, found.complete, found.faults) == (set(), False, [])


def test_without_a_release_no_names_are_read(tmp_path: Path) -> None:
    found = examined(tmp_path, pack(MAIN, "gzip"), wanted=None)
    assert (found.complete, found.releases, found.faults) == (False, set(), [])


def test_a_million_releases_are_not_kept(tmp_path: Path) -> None:
    names = [(f"lib/modules/5.{n}/a", b"") for n in range(1000)]
    found = examined(tmp_path, make_cpio(*names))
    assert len(found.releases) == initrd_check.MAX_RELEASES


def test_init(tmp_path: Path) -> None:
    assert examined(tmp_path, MAIN).has_init
    found = examined(tmp_path, pack(EARLY, "gzip"))
    assert (found.has_init, found.complete) == (False, True)
    assert not examined(tmp_path, pack(MAIN, "gzip")).complete  # it stopped at the modules


@pytest.mark.parametrize("codec", [None, "gzip", "xz", "zstd", "lz4 (legacy)", "bzip2"])
@pytest.mark.parametrize("lost", [1, 3, 5, 600, 100_000])
def test_a_file_that_is_cut_off(tmp_path: Path, codec: str | None, lost: int) -> None:
    """Even if the modules are found in the part that is present."""
    whole = pack(MAIN, codec) if codec else MAIN.rstrip(b"\0") + b"\0"
    found = fault(tmp_path, whole[:-lost])
    assert found.fatal
    assert any(word in found.what for word in ("early", "end", "past", "cut off", "unpack")), found


@pytest.mark.parametrize("codec", ["zstd", "lz4 (legacy)"])
def test_a_missing_package_hides_names_and_no_end(
    tmp_path: Path, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = pack(MAIN, codec)
    for name in ("zstandard", "compression.zstd", "backports.zstd", "lz4", "lz4.block"):
        monkeypatch.setitem(sys.modules, name, None)
    found = examined(tmp_path, data)
    assert (found.releases, found.faults) == (set(), [])
    assert "no Python package that unpacks it is installed" in found.unread[0]
    assert fault(tmp_path, data[:-1000]).what.endswith(f"the {codec} stream at 0x0 ends early")


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("padding", [0, 7, 512, 4096])
def test_padding_at_the_end_is_no_fault(tmp_path: Path, codec: str, padding: int) -> None:
    assert examined(tmp_path, pack(MAIN, codec) + bytes(padding)).faults == []


@pytest.mark.parametrize("size", [512, 1 << 16])
def test_padding_after_a_plain_archive_is_no_fault(tmp_path: Path, size: int) -> None:
    assert examined(tmp_path, MAIN + bytes(size)).faults == []


SKIPPED = struct.pack("<II", 0x184D2A53, 9) + bytes(9)


@pytest.mark.parametrize(
    ("codec", "between"),
    [("gzip", b""), ("xz", b""), ("xz", bytes(8)), ("bzip2", b""), ("lz4 (legacy)", b""),
     ("zstd", b""), ("zstd", SKIPPED)],
)  # fmt: skip
def test_two_streams_end_well(tmp_path: Path, codec: str, between: bytes) -> None:
    """As written by pigz, pbzip2 and pzstd."""
    data = pack(MAIN, codec)
    file = OpenFile(write(tmp_path, "i", data + between + data))
    known = codec_of(data[:16])
    assert known
    assert ends_well(file, 0, known)
    file = OpenFile(write(tmp_path, "i", data + between + data[:-9]))
    assert ends_well(file, 0, known) is False


def lzop(blocks: list[tuple[int, bytes]], flags: int = 1) -> bytes:
    """A file of lzop: (unpacked size, packed bytes) for each block, with one checksum each."""
    head = b"\x89LZO\0\r\n\x1a\n" + struct.pack(
        ">HHHBBIIII", 0x1030, 0x2080, 0x940, 1, 5, flags, 0o100644, 0, 0
    )
    body = b"".join(struct.pack(">III", size, len(data), 0) + data for size, data in blocks)
    return head + b"\x04name" + bytes(4) + body + bytes(4)


def test_lzo_is_walked_block_by_block(tmp_path: Path) -> None:
    whole = lzop([(1 << 18, NOISE[:1000]), (500, NOISE[:500])])
    found = examined(tmp_path, whole)
    assert (found.faults, found.releases) == ([], set())
    assert "lzo" in found.unread[0]
    for lost in (1, 4, 300, 1100):
        assert fault(tmp_path, whole[:-lost]).what.endswith("the lzo stream at 0x0 ends early")


RAM_DISKS = {
    "ext2": bytes(0x438) + b"\x53\xef" + bytes(3000),
    "squashfs": b"hsqs" + bytes(3000),
    "cramfs": b"\x45\x3d\xcd\x28" + bytes(3000),
    "romfs": b"-rom1fs-" + bytes(3000),
    "minix": bytes(0x410) + b"\x8f\x13" + bytes(3000),
}


@pytest.mark.parametrize("system", RAM_DISKS)
@pytest.mark.parametrize("codec", [None, "gzip"])
def test_a_ram_disk_is_noted_and_accepted(tmp_path: Path, system: str, codec: str | None) -> None:
    data = pack(RAM_DISKS[system], codec) if codec else RAM_DISKS[system]
    found = fault(tmp_path, data)
    assert not found.fatal
    assert f"a file system image ({system})" in found.what


WRONG = {
    "a Linux kernel (bzImage)": make_bzimage(),
    "a unified kernel image (UKI)": make_uki(),
    "a ramdisk for x86_64 with a U-Boot header (uImage)": make_uimage(MAIN, kind=3),
    "a kernel for arm64 (Image)": make_arm64_image(),
    "a text file": b"root=/dev/vda1 quiet\n" * 20,
    "a script": b"#!/bin/sh\nexec init\n",
    "a web page (HTML)": b"<!DOCTYPE html>\n<html><body>404</body></html>\n",
    "a cpio archive in an old format": b"070707" + b"0" * 200,
    "an ISO 9660 image": bytes(0x8001) + b"CD001" + bytes(3000),
    "a file system (xfs)": b"XFSB" + bytes(3000),
    "a tar archive": bytes(0x101) + b"ustar" + bytes(3000),
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("codec", [None, "gzip", "xz"])
def test_what_is_no_initrd_is_named(tmp_path: Path, what: str, codec: str | None) -> None:
    found = fault(tmp_path, pack(WRONG[what], codec) if codec else WRONG[what])
    assert found.fatal
    assert f"not an initrd but {what}" in found.what


def test_an_elf_file_is_named(tmp_path: Path) -> None:
    found = fault(tmp_path, make_elf())
    assert found.fatal
    assert "not an initrd but" in found.what
    assert "ELF" in found.what


def test_an_lz4_frame_is_not_what_the_kernel_reads(tmp_path: Path) -> None:
    found = fault(tmp_path, pack(MAIN, "lz4"))
    assert found.fatal
    assert found.hint.startswith("compress it with lz4 -l")


@pytest.mark.parametrize("data", [NOISE, bytes(2 * MIB), bytes(100), b"\x01\x02\x03"])
def test_bytes_that_tell_nothing_are_no_reason_to_refuse(tmp_path: Path, data: bytes) -> None:
    assert not fault(tmp_path, data).fatal


def test_junk_behind_an_archive(tmp_path: Path) -> None:
    found = fault(tmp_path, MAIN + b"junk")
    assert not found.fatal
    assert found.what.endswith(f"at {len(MAIN):#x} is neither cpio nor compressed")


def test_an_initrd_inside_a_file_is_read_where_it_is(tmp_path: Path) -> None:
    file = OpenFile(write(tmp_path, "uki", b"x" * 777 + pack(MAIN, "xz") + b"y" * 99))
    found = examine(file.span(777, file.size - 777 - 99), OURS)
    assert (found.releases, found.faults) == ({OURS}, [])


@pytest.mark.parametrize("name", [name for name, _ in FIXTURES.items()])
def test_kernels_are_not_taken_for_initrds(tmp_path: Path, name: str) -> None:
    assert examined(tmp_path, FIXTURES[name]).faults


SMALL = to_block(make_cpio(("init", b"#!"), ("lib/modules/5.10.1/a", b"x" * 3000)))
SEEDS = [SMALL, lzop([(1 << 18, NOISE[:1000])]), *(pack(SMALL, codec) for codec in CODECS)]


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 6000), st.integers(0, 255)), max_size=5),
    st.integers(0, 8000),
)
def test_any_damage_is_a_fault_or_a_typed_error(
    tmp_path_factory: pytest.TempPathFactory,
    good: bytes,
    changes: list[tuple[int, int]],
    keep: int,
) -> None:
    raw = bytearray(EARLY + good)
    for at, value in changes:
        raw[at % len(raw)] = value
    try:
        examined(tmp_path_factory.getbasetemp(), bytes(raw[:keep]) or b"\0")
    except KexecError as error:
        assert error.message
