"""Page tables for the stub: an identity map of what it touches, for its MMU setup (stub.S: mmu_on).

Four levels with pages of 4 KiB, whatever the kernel's page size is; blocks of 2 MiB, and of 1 GiB
where all of it is RAM, so that the tables stay few on a large machine. What is not touched is not
mapped otherwise: a processor may read ahead anything that is mapped as memory, also what belongs
to firmware.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from pykexec.memory.ranges import GIB, MIB, PhysRange, RangeSet

TABLE = 4096
"""Bytes of one table, and its alignment."""
ENTRIES = 512
BLOCK = 2 * MIB
LEVEL_0, LEVEL_1 = 512 * GIB, GIB
"""Memory that one entry of these levels covers."""

VALID_BLOCK, VALID_TABLE = 0b01, 0b11
ACCESSED, INNER_SHAREABLE = 1 << 10, 3 << 8
DEVICE_INDEX = 1 << 2
"""Attribute 1 of stub.S: MAIR; 0 is write-back memory."""
NEVER_EXECUTE = 3 << 53
NORMAL = VALID_BLOCK | ACCESSED | INNER_SHAREABLE
DEVICE = VALID_BLOCK | ACCESSED | DEVICE_INDEX | NEVER_EXECUTE


def most_tables(ram: RangeSet) -> int:
    """The largest number of tables of an identity map of any part of `ram`, and of one page of a
    device anywhere, which may need a table of level 1 and one of level 2."""
    every = _outward(ram, LEVEL_1)
    level_2 = (every - _inward(ram, LEVEL_1)).size // LEVEL_1
    return 1 + _outward(every, LEVEL_0).size // LEVEL_0 + level_2 + 2


def identity_map(at: int, normal: RangeSet, device: RangeSet, ram: RangeSet) -> bytes:
    """Tables for the address `at`, the root first. `ram` decides where blocks have 1 GiB; `normal`
    is mapped as memory, `device` as a device."""
    whole = _inward(ram, LEVEL_1) - _outward(device, LEVEL_1)
    tables = _Tables(at)
    large = RangeSet.of(
        PhysRange.sized(start, LEVEL_1)
        for start in _starts(_outward(normal, LEVEL_1), LEVEL_1)
        if whole.covers(PhysRange.sized(start, LEVEL_1))
    )
    for start in _starts(large, LEVEL_1):
        tables.entry(start, LEVEL_1, start | NORMAL)
    for start in _starts(_outward(normal - large, BLOCK), BLOCK):
        tables.entry(start, BLOCK, start | NORMAL)
    for start in _starts(_outward(device, BLOCK), BLOCK):
        tables.entry(start, BLOCK, start | DEVICE)
    return tables.encoded


class _Tables:
    """The tables made so far; a new one is added when an entry needs it."""

    def __init__(self, at: int) -> None:
        self._at = at
        self._tables = [[0] * ENTRIES]

    def entry(self, address: int, covers: int, value: int) -> None:
        """Set the entry for `address` at the level where it covers this many bytes."""
        table, level = 0, LEVEL_0
        while level > covers:
            table = self._below(table, address // level % ENTRIES)
            level //= ENTRIES
        self._tables[table][address // level % ENTRIES] = value

    def _below(self, table: int, slot: int) -> int:
        """The number of the table that this entry points to."""
        if not self._tables[table][slot]:
            self._tables.append([0] * ENTRIES)
            self._tables[table][slot] = self._at + TABLE * (len(self._tables) - 1) | VALID_TABLE
        return ((self._tables[table][slot] & ~(TABLE - 1)) - self._at) // TABLE

    @property
    def encoded(self) -> bytes:
        return b"".join(struct.pack(f"<{ENTRIES}Q", *table) for table in self._tables)


def _outward(spans: RangeSet, size: int) -> RangeSet:
    return RangeSet.of(span.outward(size) for span in spans)


def _inward(spans: RangeSet, size: int) -> RangeSet:
    return RangeSet.of(inside for span in spans if (inside := span.inward(size)))


def _starts(spans: RangeSet, size: int) -> Iterator[int]:
    for span in spans:
        yield from range(span.start, span.end, size)
