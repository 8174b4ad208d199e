"""Range algebra: cases with drawings, then laws against sets of numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.memory.ranges import BadRange, PhysRange, RangeSet, align_down, align_up

R = PhysRange


@pytest.mark.parametrize(
    ("start", "end"), [(5, 5), (6, 5), (-1, 5), (0, (1 << 64) + 1), (1 << 64, 1 << 64)]
)
def test_a_range_is_never_empty_nor_outside_of_64_bits(start: int, end: int) -> None:
    with pytest.raises(BadRange, match="invalid range of physical addresses"):
        R(start, end)


def test_an_inclusive_end_belongs_to_the_range() -> None:
    assert R.from_inclusive(0x1000, 0x9FBFF) == R(0x1000, 0x9FC00)
    assert R.from_inclusive(0, (1 << 64) - 1).end == 1 << 64


@pytest.mark.parametrize(
    ("a", "b", "both"),
    [
        (R(0, 4), R(4, 8), None),  # ####....
        #                            ....####
        (R(0, 5), R(4, 8), R(4, 5)),  # #####...
        #                               ....####
        (R(0, 8), R(2, 3), R(2, 3)),
        (R(2, 3), R(2, 3), R(2, 3)),
    ],
)
def test_intersect_and_overlaps_agree(a: R, b: R, both: R | None) -> None:
    assert a.intersect(b) == b.intersect(a) == both
    assert a.overlaps(b) is b.overlaps(a) is (both is not None)


@pytest.mark.parametrize(
    ("span", "inward", "outward"),
    [
        (R(0x1000, 0x9FC00), R(0x1000, 0x9F000), R(0x1000, 0xA0000)),
        (R(0x1, 0xFFF), None, R(0, 0x1000)),
        (R(0x1000, 0x2000), R(0x1000, 0x2000), R(0x1000, 0x2000)),
        (R(0xFFF, 0x1001), None, R(0, 0x2000)),
    ],
)
def test_whole_pages_inside_and_touched(span: R, inward: R | None, outward: R) -> None:
    assert span.inward(0x1000) == inward
    assert span.outward(0x1000) == outward


def test_alignment_of_numbers() -> None:
    assert [align_up(n, 8) for n in (0, 1, 8, 9)] == [0, 8, 8, 16]
    assert [align_down(n, 8) for n in (0, 7, 8, 15)] == [0, 0, 8, 8]


SPAN = st.tuples(st.integers(0, 60), st.integers(1, 12)).map(lambda s: R(s[0], s[0] + s[1]))
SETS = st.lists(SPAN, max_size=8)


def numbers(ranges: RangeSet | list[R]) -> set[int]:
    return {n for item in ranges for n in range(item.start, item.end)}


@given(SETS, SETS)
def test_sets_of_ranges_behave_as_sets_of_addresses(a: list[R], b: list[R]) -> None:
    left, right = RangeSet.of(a), RangeSet.of(b)
    for result, expected in (
        (left | right, numbers(a) | numbers(b)),
        (left & right, numbers(a) & numbers(b)),
        (left - right, numbers(a) - numbers(b)),
    ):
        assert numbers(result) == expected
        assert result == RangeSet.of(result), "sorted, disjoint, not touching"
        assert result.size == len(expected)


@given(SETS, SPAN)
def test_questions_about_one_range(a: list[R], span: R) -> None:
    held, inside = RangeSet.of(a), numbers([span])
    assert held.overlaps(span) is bool(numbers(a) & inside)
    assert held.covers(span) is (inside <= numbers(a))
    assert (span.start in held) is (span.start in numbers(a))
    assert numbers(held.within(span)) == numbers(a) & inside
    assert numbers(held.without(span)) == numbers(a) - inside


@given(SETS, st.sampled_from([1, 2, 4, 8]))
def test_inward_keeps_whole_blocks_only(a: list[R], align: int) -> None:
    held = RangeSet.of(a)
    blocks = {n // align for n in numbers(held.inward(align))}
    assert blocks == {
        n // align
        for n in numbers(a)
        if all(m in numbers(a) for m in range(n // align * align, n // align * align + align))
    }
