"""A struct kimage and its list pages as bytes, in two layouts of the kernel."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest

from pykexec.abi.kexec import Ind
from pykexec.abi.x86.page import PAGE_SIZE
from pykexec.backends.kernel.kimage import (
    KIMAGE_READ,
    KimageMismatch,
    LoadedSegment,
    find_segments,
    kimage_address,
    read_kimage,
)
from pykexec.backends.page_list import BadPageList
from pykexec.crash.backup_map import BackupRun

POINTER, KIMAGE = 0xFFFFFFFF8300AA00, 0xFFFF888003F00400
ENTRY = 0x106000
SEGMENTS = (
    LoadedSegment(0, 0x1000, 2 * PAGE_SIZE),
    LoadedSegment(5000, 0x100000, 3 * PAGE_SIZE),
)
DEST, INDIRECTION, DONE, SOURCE = (int(flag) for flag in Ind)
Words = Sequence[int]


class Bytes:
    """Memory with holes, without address translation."""

    def __init__(self, pieces: dict[int, bytes]) -> None:
        self.pieces = pieces

    def virtual(self, addr: int, size: int) -> bytes:
        for start, piece in self.pieces.items():
            if start <= addr and addr + size <= start + len(piece):
                return piece[addr - start : addr - start + size]
        raise LookupError(hex(addr))

    physical = virtual


def make_struct(
    head: int, segments: Sequence[LoadedSegment] = SEGMENTS, *, extra: int = 0, entry: int = ENTRY
) -> bytes:
    """head, entry, last_entry, (destination), start, control_code_page, swap_page,
    vmcoreinfo_data_copy, nr_segments, segment[16]."""
    words = [head, 0xFFFF888000000008, 0xFFFF888000000FF8, *[0x7000] * extra, entry]
    words += [0xFFFFEA0000001000, 0xFFFFEA0000002000, 0, len(segments)]
    raw = struct.pack(f"<{len(words)}Q", *words)
    for segment in segments:
        raw += struct.pack("<4Q", 0x7F1234567000, segment.bufsz, segment.mem, segment.memsz)
    return raw.ljust(1024, b"\0")


def page(words: Words) -> bytes:
    return struct.pack(f"<{len(words)}Q", *words).ljust(PAGE_SIZE, b"\0")


GOOD: Words = [
    0x1000 | DEST, 0x800000 | SOURCE, 0x801000 | SOURCE,
    0x100000 | DEST, 0x803000 | SOURCE, 0x101000 | SOURCE, 0x802000 | SOURCE, DONE,
]  # fmt: skip


def make_memory(words: Words = GOOD, *, struct_bytes: bytes | None = None) -> Bytes:
    return Bytes(
        {
            POINTER: struct.pack("<Q", KIMAGE),
            KIMAGE: struct_bytes or make_struct(0x900000 | INDIRECTION),
            0x900000: page(words),
        }
    )


def test_read_back() -> None:
    image = read_kimage(make_memory(), POINTER, SEGMENTS, ENTRY, PAGE_SIZE)
    assert image.backup_map.runs == (
        BackupRun(0x1000, 0x800000, 0x2000),
        BackupRun(0x100000, 0x803000, 0x1000),
        BackupRun(0x101000, 0x101000, 0x1000),
        BackupRun(0x102000, 0x802000, 0x1000),
    )
    assert image.list_pages == (0x900000,)


def test_list_of_several_pages() -> None:
    pages = 1100
    segments = [LoadedSegment(0, 0x1000000, pages * PAGE_SIZE)]
    words = [0x1000000 | DEST] + [(0x8000000 + no * PAGE_SIZE) | SOURCE for no in range(pages)]
    blocks = [words[at : at + 511] for at in range(0, len(words), 511)]
    pieces = {
        POINTER: struct.pack("<Q", KIMAGE),
        KIMAGE: make_struct(0x900000 | INDIRECTION, segments),
    }
    for no, block in enumerate(blocks):
        last = no == len(blocks) - 1
        end = DONE if last else (0x900000 + (no + 1) * PAGE_SIZE) | INDIRECTION
        pieces[0x900000 + no * PAGE_SIZE] = page([*block, end])
    image = read_kimage(Bytes(pieces), POINTER, segments, ENTRY, PAGE_SIZE)
    assert image.backup_map.runs == (BackupRun(0x1000000, 0x8000000, pages * PAGE_SIZE),)
    assert len(image.list_pages) == 3


LAYOUTS = [
    ("6.1 and 7.3", make_struct(1), 56),
    ("up to 3.16: a destination word before start", make_struct(1, extra=1), 64),
    ("a kernel without vmcoreinfo_data_copy", make_struct(1)[:48] + make_struct(1)[56:], 48),
]


@pytest.mark.parametrize(
    ("raw", "offset"), [row[1:] for row in LAYOUTS], ids=[row[0] for row in LAYOUTS]
)
def test_layouts(raw: bytes, offset: int) -> None:
    assert find_segments(raw[:KIMAGE_READ], SEGMENTS, ENTRY) == offset


def test_sixteen_segments_are_found() -> None:
    segments = [LoadedSegment(no, 0x100000 * (no + 1), 4096) for no in range(16)]
    assert find_segments(make_struct(1, segments)[:KIMAGE_READ], segments, ENTRY) == 56
    old = make_struct(1, segments, extra=1)[:KIMAGE_READ]
    assert find_segments(old, segments, ENTRY) == 64


OTHER = (SEGMENTS[0], LoadedSegment(5001, 0x100000, 3 * PAGE_SIZE))
MISMATCHES: list[tuple[str, Bytes, str]] = [
    (
        "nothing is loaded",
        Bytes({POINTER: bytes(8)}),
        "kexec_image: no image is loaded",
    ),
    (
        "another program loaded an image with another entry",
        make_memory(struct_bytes=make_struct(0x900000 | INDIRECTION, entry=0x2000)),
        "kexec_image: its entry is not 0x106000",
    ),
    (
        "another program loaded a table that differs in one byte count",
        make_memory(struct_bytes=make_struct(0x900000 | INDIRECTION, OTHER)),
        "kexec_image: the 2 segments just loaded are not in it",
    ),
    (
        "the table is there, and one segment more",
        make_memory(
            struct_bytes=make_struct(
                0x900000 | INDIRECTION, (*SEGMENTS, LoadedSegment(0, 0x200000, 4096))
            )
        ),
        "kexec_image: the 2 segments just loaded are not in it",
    ),
    (
        "one source is missing",
        make_memory([*GOOD[:6], DONE]),
        "page list: 4 source pages, but the segments have 5",
    ),
    (
        "a crash image: the list is DONE at once",
        make_memory(struct_bytes=make_struct(DONE)),
        "page list: 0 source pages, but the segments have 5",
    ),
    (
        "the destination is not the segment's",
        make_memory([0x2000 | DEST, *GOOD[1:]]),
        "page list: destination 0x2000, but a segment has 0x1000",
    ),
    (
        "a source twice",
        make_memory([*GOOD[:2], 0x800000 | SOURCE, *GOOD[3:]]),
        "page list: page 0x800000 is the source of two pages",
    ),
    (
        "a source that is another page's destination",
        make_memory([*GOOD[:2], 0x100000 | SOURCE, *GOOD[3:]]),
        "page list: source 0x100000 is another page's destination",
    ),
]


@pytest.mark.parametrize(
    ("memory", "message"), [row[1:] for row in MISMATCHES], ids=[row[0] for row in MISMATCHES]
)
def test_mismatch(memory: Bytes, message: str) -> None:
    with pytest.raises(KimageMismatch) as caught:
        read_kimage(memory, POINTER, SEGMENTS, ENTRY, PAGE_SIZE)
    assert str(caught.value) == message
    assert caught.value.exit_status == 3


def test_hidden_list_page_reads_as_zeros() -> None:
    with pytest.raises(BadPageList, match="page list: ends in 0x0 instead of IND_DONE"):
        read_kimage(make_memory([0]), POINTER, SEGMENTS, ENTRY, PAGE_SIZE)


def test_endless_list_ends() -> None:
    with pytest.raises(BadPageList):
        read_kimage(make_memory([0x900000 | INDIRECTION]), POINTER, SEGMENTS, ENTRY, PAGE_SIZE)


def test_the_address_of_the_struct() -> None:
    memory = make_memory()
    assert kimage_address(memory, POINTER) == KIMAGE
    memory.pieces[POINTER] = bytes(8)
    assert not kimage_address(memory, POINTER)
