"""Which memory a dump holds and which it lists without contents, as runs of addresses; and whether
the file has everything that its tables list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pykexec.dump.elf_memory import ElfMemory
from pykexec.dump.faults import DamagedDump, NotInDump
from pykexec.dump.watch import Watch, unwatched
from pykexec.memory.ranges import PhysRange, RangeSet

if TYPE_CHECKING:
    from pykexec.dump.file import Bytes
    from pykexec.dump.kdump_memory import KdumpMemory

RUNS_MAX = 1 << 20
"""A filtered dump of 64 GiB has some hundred thousand at most."""
BITMAP_BYTES, PART_BYTES = 64 << 10, 1 << 10
"""Bytes of a bitmap that are read, and that are searched at a time."""
ZEROS, ONES = bytes(BITMAP_BYTES), b"\xff" * BITMAP_BYTES

PAGES_MAX = 1 << 40
"""More page frames than any machine has; their addresses have less than 64 bits."""

Run = tuple[int, int]
"""[first, end) of bits."""


def held(memory: ElfMemory | KdumpMemory) -> RangeSet:
    """The memory that can be read."""
    if isinstance(memory, ElfMemory):
        there = (
            (start, min(filled, start + max(0, memory.file.size - offset)))
            for start, _, filled, offset in memory.spans
        )
        return RangeSet.of(PhysRange(start, end) for start, end in there if start < end)
    found = _in_bytes(memory, memory.bitmap)
    if not memory.split:
        return found
    part = (memory.start * memory.block, min(memory.end, PAGES_MAX) * memory.block)
    return found.within(PhysRange(*part)) if part[0] < part[1] else RangeSet()


def listed(memory: ElfMemory | KdumpMemory) -> RangeSet:
    """All of the crashed kernel's memory according to the dump's tables, filtered pages
    included."""
    if isinstance(memory, ElfMemory):
        return RangeSet.of(PhysRange(start, end) for start, end, _, _ in memory.spans)
    return _in_bytes(memory, memory.bitmap - memory.bitmap_room)


def _in_bytes(memory: KdumpMemory, offset: int) -> RangeSet:
    runs, block = bit_runs(memory.file, offset, memory.bitmap_size), memory.block
    return RangeSet(tuple(PhysRange(start * block, end * block) for start, end in runs))


def bit_runs(file: Bytes, offset: int, size: int) -> Iterator[Run]:
    """Runs of ones in a bitmap of `size` bytes, which do not touch; the lowest bit of a byte is
    first. Parts without ones or zeros, nearly all of a large bitmap, cost a comparison."""
    first = last = 0
    left = RUNS_MAX
    for at in range(0, size, BITMAP_BYTES):
        raw = file.read(offset + at, min(BITMAP_BYTES, size - at))
        if ZEROS.startswith(raw):
            continue
        for start, end in _runs_in(raw):
            if at * 8 + start > last:
                if last:
                    yield first, last
                first = at * 8 + start
                left -= 1
                if not left:
                    raise DamagedDump(f"{file.name}: more than {RUNS_MAX} runs of pages")
            last = at * 8 + end
    if last:
        yield first, last


def _runs_in(raw: bytes) -> Iterator[Run]:
    """Runs of ones in some bytes; those that touch are not joined."""
    for at in range(0, len(raw), PART_BYTES):
        part = raw[at : at + PART_BYTES]
        if ZEROS.startswith(part):
            continue
        if ONES.startswith(part):
            yield at * 8, (at + len(part)) * 8
            continue
        for start, end in ones(int.from_bytes(part, "little")):
            yield at * 8 + start, at * 8 + end


def ones(number: int) -> Iterator[Run]:
    """Runs of ones in a number, lowest first."""
    at = 0
    while number:
        skipped = (number & -number).bit_length() - 1
        number >>= skipped
        count = (~number & number + 1).bit_length() - 1
        yield at + skipped, at + skipped + count
        number >>= count
        at += skipped + count


def first_missing(memory: ElfMemory | KdumpMemory, watch: Watch = unwatched) -> str:
    """The first thing that the tables list and the file lacks; "" if nothing is missing."""
    if isinstance(memory, ElfMemory):
        for start, _, filled, offset in memory.spans:
            end = offset + filled - start
            if filled > start and end > memory.file.size:
                return f"memory at {start:#x} ends at {end:#x}, the file at {memory.file.size:#x}"
        return ""
    return memory.first_missing(watch)


def unreadable_page(
    memory: KdumpMemory, there: RangeSet, samples: int, watch: Watch = unwatched
) -> tuple[int, str]:
    """Read evenly spread pages of what is there. Returns how many were read, and what is wrong with
    the first bad one."""
    total = there.size // memory.block
    step = max(1, total // samples)
    number = done = 0
    for span in there:
        first, end = span.start // memory.block, span.end // memory.block
        for frame in range(first + -number % step, end, step):
            watch("pages", done * step / total)
            try:
                memory.page(frame)
            except (DamagedDump, NotInDump) as error:
                return done, f"page frame {frame:#x}: {error.message}"
            done += 1
        number += end - first
    return done, ""
