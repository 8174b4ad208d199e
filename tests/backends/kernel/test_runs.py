"""Which huge pages are kept. Frames are in units of 2 MiB: run([8, 9, 10])."""

from __future__ import annotations

import random

import pytest

from pykexec.backends.kernel.runs import Choice, Shortage, Wanted, choose, search_limit, sections
from pykexec.memory.ranges import PhysRange, RangeSet

MIB = 1 << 20
MIB2 = 2 * MIB
GIB = 1 << 30
BELOW_4G = PhysRange(16 << 20, 4 * GIB)
ANYWHERE = PhysRange(16 << 20, 1 << 52)


def at(*numbers: int) -> tuple[int, ...]:
    return tuple(number * MIB2 for number in numbers)


def span(first: int, last: int) -> PhysRange:
    return PhysRange(first * MIB2, (last + 1) * MIB2)


CASES: list[tuple[str, tuple[int, ...], Wanted, Choice | Shortage]] = [
    ("nothing wanted", at(1, 2), Wanted(), Choice(None, ())),
    ("singles: the highest", at(5, 1, 9), Wanted(singles=2), Choice(None, at(5, 9))),
    ("one too few", at(5, 1), Wanted(singles=3), Shortage(2 - 1, 2)),
    (
        "a run out of pages in any order",
        at(12, 10, 30, 11, 20),
        Wanted(run=3, singles=1),
        Choice(span(10, 12), at(30)),
    ),
    (
        "what is shunned comes last",
        at(10, 11, 12, 13, 20, 21, 30),
        Wanted(run=2, singles=1, shun=RangeSet((span(20, 30),))),
        Choice(span(12, 13), at(11)),
    ),
    (
        "of the singles as few as possible are shunned",
        at(10, 20, 21),
        Wanted(singles=2, shun=RangeSet((span(20, 30),))),
        Choice(None, at(10, 21)),
    ),
    (
        "a run that is only there is taken there",
        at(10, 12, 20, 21),
        Wanted(run=2, singles=1, shun=RangeSet((span(20, 30),))),
        Choice(span(20, 21), at(12)),
    ),
    (
        "pages that do not touch are no run",
        at(10, 12, 14, 15),
        Wanted(run=3),
        Shortage(2, 4),
    ),
    (
        "a run as long as wanted leaves no page beside it",
        at(10, 11, 12),
        Wanted(run=3, singles=1),
        Shortage(3, 3),
    ),
    (
        "a longer run gives its pages to the singles",
        at(10, 11, 12, 13),
        Wanted(run=3, singles=1),
        Choice(span(11, 13), at(10)),
    ),
    (
        "of two places the higher one",
        at(10, 11, 20, 21),
        Wanted(run=2),
        Choice(span(20, 21), ()),
    ),
    (
        "one section rather than two, though it is lower (64 pages a section)",
        at(62, 63, 64, 65, 127, 128),
        Wanted(run=2),
        Choice(span(64, 65), ()),
    ),
    (
        "the first window that has a run wins: below 4 GiB",
        at(10, 11, 2048, 2049),
        Wanted(run=2, windows=(BELOW_4G, ANYWHERE)),
        Choice(span(10, 11), ()),
    ),
    (
        "the second window where the first has none",
        at(10, 2048, 2049),
        Wanted(run=2, windows=(BELOW_4G, ANYWHERE)),
        Choice(span(2048, 2049), ()),
    ),
    (
        "a run across the end of a window is cut there",
        at(2046, 2047, 2048),
        Wanted(run=3, windows=(BELOW_4G,)),
        Shortage(2, 3),
    ),
    (
        "below 16 MiB a bzImage would leave the window",
        at(6, 7, 8, 9),
        Wanted(run=3, windows=(BELOW_4G,)),
        Shortage(2, 4),
    ),
    (
        "what must be avoided splits a run",
        at(10, 11, 12, 13, 14),
        Wanted(run=3, avoid=RangeSet((PhysRange(12 * MIB2 + 4096, 12 * MIB2 + 8192),))),
        Shortage(2, 4),
    ),
    (
        "singles avoid it too",
        at(10, 11, 12),
        Wanted(singles=2, avoid=RangeSet((span(11, 11),))),
        Choice(None, at(10, 12)),
    ),
]


@pytest.mark.parametrize(
    ("frames", "wanted", "expected"), [row[1:] for row in CASES], ids=[row[0] for row in CASES]
)
def test_choose(frames: tuple[int, ...], wanted: Wanted, expected: Choice | Shortage) -> None:
    assert choose(frames, wanted) == expected


def test_chosen_frames_are_all_of_them() -> None:
    choice = choose(at(10, 11, 12, 30), Wanted(run=2, singles=1))
    assert isinstance(choice, Choice)
    assert choice.frames == frozenset(at(11, 12, 30))


def test_order_does_not_matter() -> None:
    drawn = random.Random(7)
    frames = [drawn.randrange(3000) * MIB2 for _ in range(2000)]
    wanted = Wanted(run=4, singles=3, windows=(BELOW_4G, ANYWHERE))
    expected = choose(sorted(set(frames)), wanted)
    assert isinstance(expected, Choice)
    for _ in range(5):
        drawn.shuffle(frames)
        assert choose(set(frames), wanted) == expected


def test_sections() -> None:
    assert sections(span(0, 63)) == 1
    assert sections(span(63, 64)) == 2


@pytest.mark.parametrize(
    ("available", "pages"),
    [
        (4 * GIB, 1792),
        (512 * MIB, 224),
        (256 * MIB, 96),
        (65 * MIB, 0),
        (MIB2, 0),
        (1024 * GIB, 8192),
    ],
)
def test_a_search_leaves_something_to_others(available: int, pages: int) -> None:
    assert search_limit(available) == pages
