"""JSON as documents: what is refused, and the location that the error names."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.backends.backend import Slot
from pykexec.backends.kernel.kimage import LoadedSegment
from pykexec.backends.kernel.record import LoadRecord, RecordDocument, RecordFile
from pykexec.documents import by_hand, by_mashumaro
from pykexec.documents.codec import decode, encode, plain
from pykexec.documents.plan import PlanDocument
from pykexec.memory.ranges import PhysRange
from pykexec.placement.request import Mode
from tests.builders import make_bzimage
from tests.plans import plan

BAD = [
    ({"entry": 5}, "entry: expected text, found 5"),
    ({"entry": "0X5"}, "entry: expected ^0x(0|[1-9a-f][0-9a-f]{0,16})$, found '0X5'"),
    ({"window": {"start": "0x1"}}, "window: end: missing"),
    ({"window": 3}, "window: expected Optional[Span], found 3"),
    ({"flags": "abc"}, "flags: expected a list, found 'abc'"),
    ({"backend": "both"}, "backend: expected one of ('simulated', 'kernel'), found 'both'"),
    ({"kernel": {"type": "", "version": None, "sha256": "0"}},
     "kernel: sha256: expected ^[0-9a-f]{64}$, found '0'"),
    ({"elfcorehdr": {"addr": "0x0", "size": -1, "program_headers": 1}},
     "elfcorehdr: size: expected at least 0, found -1"),
    ({"elfcorehdr": {"addr": "0x0", "size": True, "program_headers": 1}},
     "elfcorehdr: size: expected a whole number, found True"),
    ({"elfcorehdr": {"addr": "0x0", "size": 4.0, "program_headers": 1}},
     "elfcorehdr: size: expected a whole number, found 4.0"),
    ({"checks": [{"rule": "ram", "ok": 1, "detail": ""}]},
     "checks: ok: expected true or false, found 1"),
    ({"checks": [{"rule": "ram", "ok": True}]}, "checks: detail: missing"),
    ({"segments": {}}, "segments: expected a list, found {}"),
    ({"state": "z"}, "state: expected Literal['requested', 'bound'], found 'z'"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), BAD)
def test_what_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        decode(PlanDocument, plan(**change))
    assert str(raised.value) == message


@pytest.mark.parametrize(("change", "message"), BAD)
def test_what_is_refused_without_mashumaro(change: dict[str, object], message: str) -> None:
    """At the same place; the words may differ where a type has several kinds."""
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        by_hand.read(PlanDocument, plan(**change))
    place = message.rpartition(": ")[0]
    assert str(raised.value).startswith(place)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 3) | st.sampled_from(["", "0x1", "kernel", "ok"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["start", "end", "rule", "why", "mode"]), inner, max_size=3
        )
    ),
    max_leaves=4,
)
KEYS = st.sampled_from([item.name for item in fields(PlanDocument)])


@given(st.dictionaries(KEYS, JSON, max_size=2))
def test_both_ways_accept_the_same_documents(change: dict[str, object]) -> None:
    given_ = plan(**change)
    results: list[object] = []
    for read in (by_hand.read, by_mashumaro.read):
        try:
            results.append(read(PlanDocument, given_))
        except ValueError:
            results.append(None)
    mine, theirs = results
    if mine or not theirs:
        assert mine == theirs
    else:  # mashumaro takes an object for an empty list, if it is the default
        assert by_mashumaro.write(theirs) | {"schema": ""} != given_ | {"schema": ""}
    if mine:
        assert by_hand.write(mine) == by_mashumaro.write(theirs)


def test_a_state_file_is_read_without_mashumaro(tmp_path: Path) -> None:
    """Pairs, enumerations and lists of triples."""
    loaded = LoadRecord(
        Slot.CRASH, Mode.IN_PLACE, "k", 1, PhysRange(1, 2), PhysRange(3, 4), ((1, 2, "ab"),), 5,
        (LoadedSegment(1, 2, 3),),
    )  # fmt: skip
    record = RecordFile(tmp_path).encode(loaded)
    written = json.loads(json.dumps(by_hand.write(record)))
    assert written == by_mashumaro.write(record)
    assert by_hand.read(RecordDocument, written) == record
    changes: list[dict[str, object]] = [
        {"window": [1, 2, 3]}, {"slot": "third"}, {"sums": {}}, {"since": 1.0},
    ]  # fmt: skip
    for change in changes:
        with pytest.raises(ValueError, match=next(iter(change))):
            by_hand.read(RecordDocument, written | change)


def test_a_load_without_mashumaro(tmp_path: Path) -> None:
    """As where the distribution has no package of it."""
    (tmp_path / "vmlinuz").write_bytes(make_bzimage())
    code = (
        "import sys; sys.modules['mashumaro'] = None\n"
        "from pykexec.cli import main\n"
        "sys.argv = ['pykexec', 'load', 'vmlinuz', '--dry-run', '--json']\nmain()"
    )
    texts = [
        subprocess.run([sys.executable, "-c", lines], cwd=tmp_path, capture_output=True, text=True)
        for lines in (code, "import sys\n" + code.partition("\n")[2])
    ]
    assert texts[0].returncode == 0, texts[0].stderr
    assert texts[0].stdout == texts[1].stdout


@pytest.mark.parametrize("found", [None, [], "plan", 3])
def test_what_is_no_object(found: object) -> None:
    with pytest.raises(ValueError, match="expected an object, found "):
        decode(PlanDocument, found)


def test_an_unknown_key_is_passed_over() -> None:
    assert decode(PlanDocument, plan(another=1)) == decode(PlanDocument, plan())


@given(
    st.integers(0, 1 << 64),
    st.lists(st.text(max_size=3)).map(tuple),
    st.none() | st.just({"stayed_armed": True, "why": None}),
)
def test_what_is_written_is_what_was_read(
    entry: int, flags: tuple[str, ...], replaced: object
) -> None:
    given_ = plan(entry=hex(entry), flags=list(flags)) | (
        {"replaced": replaced} if replaced else {}
    )
    document = decode(PlanDocument, given_)
    assert (document.entry, document.flags) == (entry, flags)
    assert plain(document) == given_
    assert json.loads(encode(document)) == given_
