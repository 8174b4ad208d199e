from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.memory.map import MemoryMap, MemoryRange, RangeType
from pykexec.memory.ranges import PhysRange, RangeSet
from pykexec.placement.x86.reservation import pmd_pages, reservation_need, touched

GIB = 1 << 30
KIB = 1 << 10


def ram(*spans: tuple[int, int]) -> MemoryMap:
    low = MemoryRange(PhysRange(0x1000, 0x9FC00), RangeType.RAM)
    return MemoryMap.of(
        [low, *(MemoryRange(PhysRange(start, end), RangeType.RAM) for start, end in spans)]
    )


MIB = 1 << 20
CASES: list[tuple[str, MemoryMap, set[str], int]] = [
    ("1 GiB, seen on 6.1", ram((MIB, GIB - MIB)), set(), 28),
    ("2 GiB, seen on 6.1", ram((MIB, 2 * GIB - MIB)), set(), 32),
    ("1 GiB pages do not help where no whole GiB is", ram((MIB, GIB - MIB)), {"pdpe1gb"}, 28),
    (
        "64 GiB without 1 GiB pages: a page a GiB",
        ram((MIB, 2 * GIB), (4 * GIB, 66 * GIB)),
        {"lm"},
        (6 + 1 + 64 - 1) * 4,
    ),
    (
        "64 GiB with them",
        ram((MIB, 2 * GIB), (4 * GIB, 66 * GIB)),
        {"pdpe1gb"},
        28,
    ),
    ("five levels cost a page", ram((MIB, GIB - MIB)), {"la57"}, 32),
    (
        "above 512 GiB a second PUD page",
        ram((MIB, GIB), (4 * GIB, 1024 * GIB)),
        {"pdpe1gb"},
        32,
    ),
]


@pytest.mark.parametrize(
    ("memory_map", "flags", "kib"), [row[1:] for row in CASES], ids=[row[0] for row in CASES]
)
def test_need_of_a_one_page_image(memory_map: MemoryMap, flags: set[str], kib: int) -> None:
    assert reservation_need(memory_map, frozenset(flags), 4096).size == kib * KIB


def test_ram_that_a_driver_added_is_mapped_too() -> None:
    without = ram((MIB, GIB))
    plugged = MemoryMap.of(without.ranges, RangeSet((PhysRange(8 * GIB, 10 * GIB),)))
    sizes = [reservation_need(m, frozenset(), 4096).size for m in (without, plugged)]
    assert sizes[1] - sizes[0] == 8 * KIB


def test_acpi_tables_are_mapped_too() -> None:
    tables = MemoryRange(PhysRange(3 * GIB, 3 * GIB + MIB), RangeType.ACPI)
    without = ram((MIB, GIB))
    with_tables = MemoryMap.of([*without.ranges, tables])
    sizes = [reservation_need(m, frozenset(), 4096).size for m in (without, with_tables)]
    assert sizes[1] - sizes[0] == 4 * KIB


def test_the_stub_counts_in_whole_pages() -> None:
    one, nine = (
        reservation_need(ram((MIB, GIB)), frozenset(), size).size for size in (4096, 8 * 4096 + 1)
    )
    assert nine - one == 32 * KIB


SPANS = st.lists(st.tuples(st.integers(0, 99), st.integers(1, 30)), max_size=8).map(
    lambda pairs: RangeSet.of(PhysRange.sized(start, size) for start, size in pairs)
)


@given(spans=SPANS, block=st.integers(1, 12))
def test_blocks_are_counted_as_one_by_one(spans: RangeSet, block: int) -> None:
    naive = {addr // block for span in spans for addr in range(span.start, span.end)}
    assert touched(spans, block) == len(naive)


@given(spans=SPANS)
def test_leaves_are_counted_as_one_by_one(spans: RangeSet) -> None:
    big = RangeSet.of(PhysRange(s.start * GIB // 8, s.end * GIB // 8) for s in spans)
    blocks = {at // 8 for span in spans for at in range(span.start, span.end)}
    split = [n for n in blocks if not big.covers(PhysRange.sized(n * GIB, GIB))]
    assert pmd_pages(big, False) == len(blocks)
    assert pmd_pages(big, True) == len(split)


def test_all_of_memory_is_one_range() -> None:
    whole = RangeSet((PhysRange(0, 1 << 64),))
    assert touched(whole, GIB) == 1 << 34
    assert pmd_pages(whole, True) == 0
