"""The backup map: pages to runs, and where an address is after the switch."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pykexec.crash.backup_map import BackupMap, BackupRun
from pykexec.memory.ranges import PhysRange

P = 0x1000


def test_runs_go_on_while_both_sides_advance() -> None:
    pairs = [(3 * P, 9 * P), (1 * P, 7 * P), (2 * P, 8 * P), (4 * P, 4 * P), (5 * P, 20 * P)]
    found = BackupMap.from_pages(pairs, P)
    assert found.runs == (
        BackupRun(1 * P, 7 * P, 3 * P),
        BackupRun(4 * P, 4 * P, P),
        BackupRun(5 * P, 20 * P, P),
    )
    assert [run.in_place for run in found] == [False, True, False]
    assert found.moved_size == 4 * P
    assert BackupMap.of(reversed(found.runs)) == found


def test_where_a_byte_is_now() -> None:
    found = BackupMap.from_pages([(P, 7 * P), (2 * P, 2 * P)], P)
    assert found.now(0xFFF) == 0xFFF, "in no segment: where it was"
    assert found.now(P + 5) == 7 * P + 5
    assert found.now(2 * P) is None, "it was free and has been overwritten"
    assert found.now(3 * P) == 3 * P


def test_a_span_moves_in_one_piece_or_not() -> None:
    found = BackupMap.from_pages([(P, 7 * P), (2 * P, 8 * P), (3 * P, 5 * P)], P)
    assert found.now_range(PhysRange(P + 8, 3 * P)) == PhysRange(7 * P + 8, 9 * P)
    assert found.now_range(PhysRange(2 * P, 3 * P + 1)) is None
    assert found.now_range(PhysRange(4 * P, 9 * P)) == PhysRange(4 * P, 9 * P)


@given(st.dictionaries(st.integers(0, 30), st.integers(40, 90), max_size=20))
def test_every_page_of_the_pairs_is_in_the_runs_once(pairs: dict[int, int]) -> None:
    found = BackupMap.from_pages(((d * P, s * P) for d, s in pairs.items()), P)
    pages = {run.dest // P + i: run.source // P + i for run in found for i in range(run.size // P)}
    assert pages == pairs
    for page, source in pairs.items():
        assert found.now(page * P) == source * P
