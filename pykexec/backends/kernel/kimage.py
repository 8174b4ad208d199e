"""struct kimage of the loaded image, read back from the running kernel.

Nothing is assumed: the segment table that was just loaded must be in the struct, and every page of
it in the page list, or an error is raised. Pages that the kernel does not show read as zeros
without an error (kernel-contract 4.1).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Protocol

from pykexec.abi.kexec import SEGMENT_SIZE
from pykexec.backends.page_list import PageList, read_page_list
from pykexec.errors import CheckFailed
from pykexec.frozen import dataclass
from pykexec.remedies import Another, Wish, and_also

KIMAGE_READ = 640
"""Bytes to read: the table ends at 576 in every known version, and the struct is allocated from
kmalloc-1k."""
START_OFFSETS = (24, 32)
"""kimage->start: after head, entry and last_entry, and up to 3.16 also `destination`."""
WORD = struct.Struct("<Q")
SEGMENT = struct.Struct("<QQQQ")


class KimageMismatch(CheckFailed):
    """The kernel does not have the image that was loaded."""

    code = "kimage-mismatch"
    usual_hint = and_also(
        "this kernel may be of a kind that pykexec does not know", Another("another", Wish.MODE)
    )


class KernelMemory(Protocol):
    """host.kcore.Kcore, or bytes in a test."""

    def virtual(self, addr: int, size: int) -> bytes: ...

    def physical(self, addr: int, size: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class LoadedSegment:
    """A segment passed to the kernel: sizes in bytes, `mem` physical."""

    bufsz: int
    mem: int
    memsz: int


def read_kimage(
    memory: KernelMemory,
    pointer: int,
    segments: Sequence[LoadedSegment],
    entry: int,
    page_size: int,
) -> PageList:
    """The page list, walked and checked, of the image that the pointer (the address of
    `kexec_image`) points to.

    `segments` in the order of the load. Raises KimageMismatch, BadPageList, and
    whatever `memory` raises.
    """
    addr = kimage_address(memory, pointer)
    if not addr:
        raise KimageMismatch("kexec_image: no image is loaded", hint="load again")
    raw = memory.virtual(addr, KIMAGE_READ)
    find_segments(raw, segments, entry)
    (head,) = WORD.unpack_from(raw)
    pages = sum(-(-segment.memsz // page_size) for segment in segments)
    page_list = read_page_list(memory.physical, head, pages, page_size)
    _check_pages(page_list, segments)
    return page_list


def kimage_address(memory: KernelMemory, pointer: int) -> int:
    """Virtual address of the struct that the pointer points to; 0 if no image is loaded."""
    (addr,) = WORD.unpack(memory.virtual(pointer, WORD.size))
    return int(addr)


def find_segments(raw: bytes, segments: Sequence[LoadedSegment], entry: int) -> int:
    """Offset of nr_segments in the struct, which is followed by the table that was just loaded.

    Found by its contents, because the fields before it vary; `buf` is not compared.
    """
    if entry not in (WORD.unpack_from(raw, offset)[0] for offset in START_OFFSETS):
        raise KimageMismatch(
            f"kexec_image: its entry is not {entry:#x}",
            hint="another program has loaded an image since; load again",
        )
    last = len(raw) - WORD.size - SEGMENT_SIZE * len(segments)
    for offset in range(WORD.size, last + 1, WORD.size):
        if WORD.unpack_from(raw, offset)[0] != len(segments):
            continue
        found = tuple(
            LoadedSegment(*SEGMENT.unpack_from(raw, offset + WORD.size + SEGMENT_SIZE * no)[1:])
            for no in range(len(segments))
        )
        if found == tuple(segments):
            return offset
    raise KimageMismatch(
        f"kexec_image: the {len(segments)} segments just loaded are not in it",
        hint="another program has loaded an image since, or this kernel's struct kimage is unknown",
    )


def _check_pages(page_list: PageList, segments: Sequence[LoadedSegment]) -> None:
    """Checks that every page of every segment appears once and in order, and the invariant of the
    kernel's allocator: a source is its own destination or no destination at all
    (kimage_alloc_page)."""
    wanted = [
        segment.mem + offset
        for segment in segments
        for offset in range(0, segment.memsz, page_list.page_size)
    ]
    pairs = page_list.pairs
    if len(pairs) != len(wanted):
        raise KimageMismatch(
            f"page list: {len(pairs)} source pages, but the segments have {len(wanted)}",
            hint="the kernel may hide pages from /proc/kcore (balloon, virtio-mem)",
            sources=len(pairs),
            pages=len(wanted),
        )
    for (dest, _), page in zip(pairs, wanted, strict=True):
        if dest != page:
            raise KimageMismatch(f"page list: destination {dest:#x}, but a segment has {page:#x}")
    destinations = set(wanted)
    seen: set[int] = set()
    for dest, source in pairs:
        if source in seen:
            raise KimageMismatch(f"page list: page {source:#x} is the source of two pages")
        if source != dest and source in destinations:
            raise KimageMismatch(f"page list: source {source:#x} is another page's destination")
        seen.add(source)
