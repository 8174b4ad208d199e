"""The note about how a crash by normal was armed: written by a load, read from any dump."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.crash.armed_note import MODES, NAME, ROOM, TYPE, ArmedNote, armed_note
from pykexec.crash.notes import parse_notes
from pykexec.placement.request import Mode

ADDRESS, SECONDS = st.integers(0, 1 << 63), st.integers(0, 1 << 31)
GOOD = "MODE=lent\nWINDOW_START=1000\nWINDOW_SIZE=2000\nWAIT=10\nLENT=4096\n"


def test_the_modes_are_those_of_a_request() -> None:
    assert set(MODES) == {mode.value for mode in Mode}


@given(mode=st.sampled_from(sorted(MODES)), start=ADDRESS, size=ADDRESS, wait=SECONDS, lent=ADDRESS)
def test_what_is_written_is_read(mode: str, start: int, size: int, wait: int, lent: int) -> None:
    note = ArmedNote(mode, (start, start + size), wait, lent)
    assert len(note.encoded) <= ROOM
    (found,) = parse_notes(note.encoded)
    assert (found.name, found.type) == (NAME, TYPE)
    assert armed_note(found.desc) == note


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("MODE=lent", "MODE=other"), ("MODE=lent\n", ""), ("WAIT=10", "WAIT=-1"),
        ("WAIT=10", "WAIT="), ("WAIT=10", "WAIT=ten"), ("LENT=4096", "LENT=" + "9" * 21),
        ("WINDOW_START=1000", "WINDOW_START=xyz"), ("WINDOW_SIZE=2000", "WINDOW_SIZE=1_0"),
        ("LENT=4096", "LENT=\u0664"),
    ],
)  # fmt: skip
def test_a_damaged_note_says_nothing(old: str, new: str) -> None:
    assert armed_note(GOOD.encode()) == ArmedNote("lent", (0x1000, 0x3000), 10, 4096)
    assert armed_note(GOOD.replace(old, new).encode()) is None


@given(st.binary())
def test_any_bytes(data: bytes) -> None:
    found = armed_note(data)
    assert found is None or found.mode in MODES
