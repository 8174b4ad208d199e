"""The page tables of the stub for arm64, walked as the processor does (Arm ARM, D8.2)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pykexec.memory.ranges import GIB, MIB, PhysRange, RangeSet
from pykexec.purgatory.arm64.paging import DEVICE, NORMAL, TABLE, identity_map, most_tables

AT = 0x48103000
UART = RangeSet((PhysRange.sized(0x09000000, 0x1000),))


def walk(tables: bytes, address: int, at: int = AT) -> int | None:
    """The attributes of the block that maps this address; None if nothing does."""
    table, entry = at, 0
    for shift in (39, 30, 21):
        slot = table - at + 8 * (address >> shift & 511)
        entry = int.from_bytes(tables[slot : slot + 8], "little")
        if entry & 3 == 3 and shift > 21:
            table = entry & ~(TABLE - 1)
            continue
        if entry & 1 == 0:
            return None
        assert entry & 3 == 1
        assert shift < 39, "no block at level 0"
        output = entry & (1 << 48) - 1 & -(1 << shift)
        assert output == address & -(1 << shift), "an identity map"
        return entry & ~output
    raise AssertionError("no entry")


def spans(limit: int, step: int, most: int) -> st.SearchStrategy[RangeSet]:
    one = st.builds(
        lambda start, size: PhysRange.sized(start * step, size * step),
        st.integers(2048, limit // step),
        st.integers(1, most),
    )
    return st.lists(one, max_size=5).map(RangeSet.of)


@given(
    ram=spans(1 << 41, 64 * MIB, 64),
    part=spans(1 << 41, 2 * MIB, 3),
    page=st.integers(0, (1 << 48) // TABLE - 1),
)
def test_what_is_touched_is_mapped_and_nothing_outside_of_ram(
    ram: RangeSet, part: RangeSet, page: int
) -> None:
    normal = (part & ram) | RangeSet((PhysRange.sized(AT, TABLE),))
    every = ram | normal
    tables = identity_map(AT, normal, UART, every)
    assert len(tables) % TABLE == 0
    assert len(tables) <= TABLE * most_tables(every)
    anywhere = RangeSet((PhysRange.sized(page * TABLE, TABLE),))
    assert len(identity_map(AT, normal, anywhere, every)) <= TABLE * most_tables(every)
    for span in normal:
        for address in (span.start, (span.start + span.end) // 2, span.last):
            assert walk(tables, address) == NORMAL
        for address in (span.start - 2 * MIB, span.end + 2 * MIB):
            if walk(tables, address) == NORMAL:
                assert every.overlaps(PhysRange.sized(address & -(2 * MIB), 2 * MIB))
    for span in UART:
        assert walk(tables, span.start) == DEVICE


def test_a_small_machine_needs_four_tables_and_a_large_one_few_more() -> None:
    """At most one more, for a device that is far away."""
    small = RangeSet((PhysRange(GIB, 2 * GIB - 5 * MIB),))
    assert most_tables(small) == 5
    assert len(identity_map(AT, small, UART, small)) == 4 * TABLE
    large = RangeSet((PhysRange(2 * GIB, 4 * GIB), PhysRange(513 * GIB, 900 * GIB + 7 * MIB)))
    assert most_tables(large) == 1 + 2 + 1 + 2
    scattered = RangeSet.of(PhysRange.sized(at * GIB + 4 * MIB, 2 * MIB) for at in range(514, 800))
    assert len(identity_map(AT, scattered, RangeSet(), large)) == 2 * TABLE


def test_a_device_beside_ram_is_no_part_of_a_large_block() -> None:
    ram = RangeSet((PhysRange(0, GIB),))
    tables = identity_map(AT, RangeSet((PhysRange(0, GIB),)) - UART, UART, ram)
    assert walk(tables, 0x09000000) == DEVICE
    assert walk(tables, 0x09200000) == NORMAL
