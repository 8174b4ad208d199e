"""locate_hole: top-down and bottom-up, and a reason for each rejected hole."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pykexec.memory.hole import NoHole, locate_hole
from pykexec.memory.ranges import ALL_MEMORY, PhysRange, RangeSet

FREE = RangeSet.of([PhysRange(0x1000, 0x9F000), PhysRange(0x100000, 0x800000)])


@pytest.mark.parametrize(
    ("size", "align", "from_top", "expected"),
    [
        (0x1000, 0x1000, True, 0x7FF000),
        (0x1000, 0x1000, False, 0x1000),
        (0x100000, 0x200000, True, 0x600000),
        (0x100000, 0x200000, False, 0x200000),
        (0x9E000, 0x1000, False, 0x1000),
        (0x9E001, 0x1000, False, 0x100000),
        (0x700000, 1, True, 0x100000),
    ],
)
def test_place(size: int, align: int, from_top: bool, expected: int) -> None:
    assert locate_hole(FREE, size, align=align, from_top=from_top).start == expected


def test_every_refusal_has_its_reason() -> None:
    with pytest.raises(NoHole) as caught:
        locate_hole(FREE, 0x600000, align=0x400000, window=PhysRange(0x80000, 0x800000))
    assert caught.value.message == (
        "no free range of 0x600000 bytes (6 MiB) aligned to 0x400000 in 0x80000..0x800000"
    )
    assert [str(item) for item in caught.value.refused] == [
        "0x1000..0x9f000: 0x1f000 bytes inside the window, but 0x600000 bytes (6 MiB) are needed",
        "0x100000..0x800000: 0x700000 bytes (7 MiB), not enough when aligned to 0x400000",
    ]
    assert caught.value.exit_status == 6


def test_outside_the_window_is_a_reason() -> None:
    with pytest.raises(NoHole, match="no free range") as caught:
        locate_hole(FREE, 0x1000, align=0x1000, window=PhysRange(1 << 32, 1 << 33))
    assert {item.why for item in caught.value.refused} == {"outside the window"}
    assert caught.value.hint == (
        "all free memory is elsewhere: 0x100000..0x800000 is the largest range"
    )


def test_the_hint_has_the_largest_holes_of_the_window() -> None:
    """As many as fit into a line, in address order."""
    window = PhysRange(0x10000, 1 << 64)
    sizes = {0x8000: 0x7000, 0x20000: 0x3000, 0x40000: 0x1000, 0x60000: 0x4000, 0x80000: 0x2000}
    free = RangeSet.of(PhysRange.sized(start, size) for start, size in sizes.items())
    with pytest.raises(
        NoHole, match=r"of 0x5000 bytes aligned to 0x1000 at or above 0x10000$"
    ) as caught:
        locate_hole(free, 0x5000, align=0x1000, window=window)
    assert [text.split(":")[0] for text in (caught.value.hint or "").split("; ")] == [
        "0x20000..0x23000",
        "0x60000..0x64000",
        "0x80000..0x82000",
    ]


def test_nothing_free_is_said() -> None:
    with pytest.raises(NoHole) as caught:
        locate_hole(RangeSet(), 1, align=0x1000)
    assert caught.value.hint == "there is no free memory at all"


PAGES = st.tuples(st.integers(0, 40), st.integers(1, 10)).map(
    lambda s: PhysRange(s[0] << 12, s[0] + s[1] << 12)
)


@given(
    st.lists(PAGES, max_size=5),
    st.integers(1, 6 << 12),
    st.sampled_from([0x1000, 0x2000, 0x4000]),
    st.one_of(st.just(ALL_MEMORY), PAGES),
    st.booleans(),
)
def test_found_is_the_extreme_place_and_refused_means_there_is_none(
    spans: list[PhysRange], size: int, align: int, window: PhysRange, from_top: bool
) -> None:
    free = RangeSet.of(spans)
    good = [
        start
        for start in range(0, 60 << 12, align)
        if free.covers(PhysRange.sized(start, size)) and window.covers(PhysRange.sized(start, size))
    ]
    try:
        found = locate_hole(free, size, align=align, window=window, from_top=from_top)
    except NoHole as error:
        assert good == []
        assert len(error.refused) == len(free)
        return
    assume(found.end < 60 << 12)
    assert found.start == (max(good) if from_top else min(good))
