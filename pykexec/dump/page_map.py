"""Which memory a dump holds and which it lists without contents, as runs of addresses; and whether
the file has everything that its tables list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pykexec.dump.elf_memory import ElfMemory
from pykexec.dump.faults import DamagedDump, NotInDump

if TYPE_CHECKING:
    from pykexec.dump.file import Bytes
    from pykexec.dump.kdump_memory import KdumpMemory

RUNS_MAX = 1 << 20
"""A filtered dump of 64 GiB has some hundred thousand at most."""
BITMAP_BYTES = 4096
"""Bytes of a bitmap that are read at a time."""

Run = tuple[int, int]
"""[start, end) in bytes."""


def held(memory: ElfMemory | KdumpMemory) -> list[Run]:
    """The memory that can be read, as [start, end) in bytes, in order."""
    if isinstance(memory, ElfMemory):
        there = (
            (start, min(filled, start + max(0, memory.file.size - offset)))
            for start, _, filled, offset in memory.spans
        )
        return [(start, end) for start, end in there if start < end]
    return _in_bytes(memory, memory.bitmap)


def listed(memory: ElfMemory | KdumpMemory) -> list[Run]:
    """All of the crashed kernel's memory according to the dump's tables, filtered pages
    included."""
    if isinstance(memory, ElfMemory):
        return [(start, end) for start, end, _, _ in memory.spans]
    return _in_bytes(memory, memory.bitmap - memory.bitmap_room)


def _in_bytes(memory: KdumpMemory, offset: int) -> list[Run]:
    found = _bit_runs(memory.file, offset, memory.bitmap_size)
    return [(start * memory.block, end * memory.block) for start, end in found]


def _bit_runs(file: Bytes, offset: int, size: int) -> list[Run]:
    """Runs of ones in a bitmap of `size` bytes; the lowest bit of a byte is first."""
    found: list[Run] = []
    for at in range(0, size, BITMAP_BYTES):
        raw = file.read(offset + at, min(BITMAP_BYTES, size - at))
        for start, end in ones(int.from_bytes(raw, "little")):
            first = at * 8 + start
            if found and found[-1][1] == first:
                first = found.pop()[0]
            found.append((first, at * 8 + end))
            if len(found) > RUNS_MAX:
                raise DamagedDump(f"{file.name}: more than {RUNS_MAX} runs of pages")
    return found


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


def first_missing(memory: ElfMemory | KdumpMemory) -> str:
    """The first thing that the tables list and the file lacks; "" if nothing is missing."""
    if isinstance(memory, ElfMemory):
        for start, _, filled, offset in memory.spans:
            end = offset + filled - start
            if filled > start and end > memory.file.size:
                return f"memory at {start:#x} ends at {end:#x}, the file at {memory.file.size:#x}"
        return ""
    return memory.first_missing()


def unreadable_page(memory: KdumpMemory, runs: list[Run], samples: int) -> tuple[int, str]:
    """Read evenly spread pages. Returns how many were read, and what is wrong with the first bad
    one."""
    total = sum(end - start for start, end in runs) // memory.block
    step = max(1, total // samples)
    number = done = 0
    for start, end in runs:
        frames = (end - start) // memory.block
        first = -number % step
        for frame in range(start // memory.block + first, end // memory.block, step):
            if memory.split and not memory.start <= frame < memory.end:
                continue
            try:
                memory.page(frame)
            except (DamagedDump, NotInDump) as error:
                return done, f"page frame {frame:#x}: {error.message}"
            done += 1
        number += frames
    return done, ""
