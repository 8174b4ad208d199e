"""Names of saved dumps, and which may go."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.flows.save.folders import INCOMPLETE, new_name, ours, removable, room, surplus

A, B, C, D = (f"pykexec-2026010{day}T000000Z" for day in range(1, 5))
FOREIGN = ["202601010000", "pykexec-latest", "pykexec-20260101T000000Z.old", "kexec_cmd"]
names = st.lists(st.sampled_from([A, B, C, D]), unique=True).flatmap(
    lambda found: st.tuples(*(st.sampled_from([name, name + INCOMPLETE]) for name in found))
)


def test_a_name_is_the_time_of_the_crash() -> None:
    crashed = datetime(2026, 1, 2, tzinfo=UTC)
    assert new_name(crashed, []) == B
    assert new_name(crashed, [B + INCOMPLETE]) == f"{B}-2"
    assert new_name(crashed, [B, f"{B}-2"]) == f"{B}-3"


def test_a_thousand_of_one_second_are_refused() -> None:
    first = "pykexec-19700101T000000Z"
    taken = [first, *(f"{first}-{number}" for number in range(2, 1000))]
    with pytest.raises(FileExistsError):
        new_name(datetime(1970, 1, 1, tzinfo=UTC), taken)


def test_the_order_is_that_of_the_crashes() -> None:
    assert ours([B, f"{A}-10", f"{A}-9", A, *FOREIGN]) == [A, f"{A}-9", f"{A}-10", B]


def test_what_may_go_for_a_new_one() -> None:
    """The newest complete one stays, however little room there is."""
    there = [A, B + INCOMPLETE, C, D + INCOMPLETE, *FOREIGN]
    assert removable(there, D) == [A, B + INCOMPLETE]
    assert removable([A, D + INCOMPLETE], D) == []


def test_retention() -> None:
    assert surplus([A, B, C, D, *FOREIGN], 2, D) == [A, B]
    assert surplus([A, B + INCOMPLETE, C + INCOMPLETE, D + INCOMPLETE], 1, D) == [
        B + INCOMPLETE,
        C + INCOMPLETE,
    ]


@given(names, st.integers(1, 6), st.sampled_from([A, B, C, D]))
def test_the_current_one_is_the_newest_whatever_the_clock_says(
    there: tuple[str, ...], keep: int, current: str
) -> None:
    gone = surplus(there, keep, current)
    assert current not in {name.removesuffix(INCOMPLETE) for name in gone}
    left = [name for name in there if name not in gone]
    for incomplete in (False, True):
        kind = [name for name in there if name.endswith(INCOMPLETE) is incomplete]
        assert len([name for name in left if name in kind]) == min(len(kind), keep)


@given(names, st.integers(-1, 6))
def test_the_newest_never_goes(there: tuple[str, ...], keep: int) -> None:
    found = sorted(there)
    assert not set(found[-1:]) & set(surplus(there, keep, "none"))
    whole = [name for name in found if not name.endswith(INCOMPLETE)]
    assert not set(whole[-1:]) & {*surplus(there, keep, "none"), *removable(there, "none")}


@pytest.mark.parametrize(
    ("free", "old", "what"), [(5, [A], "enough"), (4, [A], "remove"), (4, [], "none")]
)
def test_room(free: int, old: list[str], what: str) -> None:
    assert room(free, 5, old) == what
