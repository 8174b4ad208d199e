"""The differences between two plans; and documents with arbitrary contents."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykexec.documents.plan import PLAN_MAX, BadPlan
from pykexec.flows.diff import FieldDiff, diff
from tests.plans import SHA, plan, segment

BOUND = {
    "state": "bound",
    "backup_map": [
        {"dest": "0x1000", "source": "0x8000", "size": 4096},
        {"dest": "0x2000", "source": "0x2000", "size": 8192},
    ],
    "elfcorehdr": {"addr": "0x5000", "size": 4096, "program_headers": 3},
}


def written(name: str, document: object) -> str:
    Path(name).write_text(json.dumps(document))
    return name


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


FIELDS = [
    ({"entry": "0x2000"}, FieldDiff("entry", "0x1000", "0x2000")),
    ({"mode": None}, FieldDiff("mode", "flag", None)),
    ({"window": None}, FieldDiff("window", "0x1000..0x9000", None)),
    ({"reservation": None}, FieldDiff("reservation", "nothing", None)),
    (
        {"reservation": [{"start": "0x1000", "end": "0x2000"}]},
        FieldDiff("reservation", "nothing", "0x1000..0x2000"),
    ),
    ({"flags": []}, FieldDiff("flag", "KEXEC_CRASH_BY_NORMAL", None)),
    (
        {"kernel": {"type": "bzImage64", "version": "6.1", "sha256": SHA}},
        FieldDiff("kernel version", None, "6.1"),
    ),
    (
        {"memory_map": []},
        FieldDiff("memory", "0x0..0x9000 System RAM", None),
    ),
    ({"syscall": {"name": "kexec_load", "why": ""}}, FieldDiff("syscall", None, "kexec_load")),
]


@pytest.mark.parametrize(("change", "expected"), FIELDS)
def test_a_field(change: dict[str, Any], expected: FieldDiff) -> None:
    found = diff(written("a", plan()), written("b", plan(**change)))
    assert (found.fields, found.pieces) == ((expected,), ())


@pytest.mark.parametrize("gone", ["cmdline_words", "console", "next_memory_map"])
def test_a_plan_of_before_a_field_was_there(gone: str) -> None:
    """The added words and the next kernel's map are not compared; there was no console."""
    older = plan()
    del older[gone]
    fields = diff(written("a", older), written("b", plan())).fields
    assert fields == ((FieldDiff("console", None, "0x3f8"),) if gone == "console" else ())


def test_a_rule_that_is_broken_in_one_of_them() -> None:
    checks = [{"rule": "overlap", "ok": None, "detail": "other words"}]
    found = diff(written("a", plan()), written("b", plan(checks=checks)))
    assert found.fields == (
        FieldDiff("rule", "overlap: ok", None),
        FieldDiff("rule", None, "overlap: unknown"),
    )


def test_a_bound_plan_and_a_requested_one() -> None:
    found = diff(written("a", plan()), written("b", plan(**BOUND)))
    assert found.fields == (
        FieldDiff("state", "requested", "bound"),
        FieldDiff("backup pages", None, "1"),
        FieldDiff("ELF core headers", None, "0x5000..0x6000"),
    )


def test_words_for_people_are_not_compared() -> None:
    other = plan(segment("kernel", 0x1000, 4096) | {"why": "because"})
    other["checks"][0]["detail"] = "in other words"
    found = diff(written("a", plan(segment("kernel", 0x1000, 4096))), written("b", other))
    assert found.same


K = segment("kernel", 0x1000, 4096, SHA)
PIECES = [
    ([K], [segment("kernel", 0x2000, 4096, SHA)], [("kernel", "moved")]),
    ([K], [segment("kernel", 0x1000, 8192, SHA)], [("kernel", "resized")]),
    ([K], [segment("kernel", 0x1000, 4096, "cd" * 32)], [("kernel", "contents")]),
    ([K], [], [("kernel", "removed")]),
    ([], [K], [("kernel", "added")]),
    ([K], [segment("initrd", 0x1000, 4096, SHA)], [("kernel", "removed"), ("initrd", "added")]),
    # free memory in several pieces: equal ones are not a difference
    #   a  |0x1000|      |0x3000|
    #   b         |0x2000|0x3000|
    (
        [segment("free", 0x1000, 4096), segment("free", 0x3000, 4096)],
        [segment("free", 0x2000, 4096), segment("free", 0x3000, 4096)],
        [("free", "moved")],
    ),
    # the same piece twice differs from the same piece once
    ([K, K], [K], [("kernel", "removed")]),
]


@pytest.mark.parametrize(("a", "b", "expected"), PIECES)
def test_segments(
    a: list[dict[str, Any]], b: list[dict[str, Any]], expected: list[tuple[str, str]]
) -> None:
    found = diff(written("a", plan(*a)), written("b", plan(*b)))
    assert [(item.name, *item.what) for item in found.pieces] == expected
    assert diff("a", "a").same
    assert diff("b", "b").same


def test_what_waits_in_the_stage_is_compared() -> None:
    found = diff(written("a", plan(stage=[K])), written("b", plan(stage=[])))
    assert [item.what for item in found.pieces] == [("removed",)]


BAD = [
    (b"", "a: not a plan: "),
    (b"\xff\xfe", "a: not a plan: "),
    (b"[" * 100_000, "a: not a plan: "),
    (b"[]", "a: not a plan: its schema is not pykexec.plan/1"),
    (b'{"schema": "pykexec.machine/1"}', "a: not a plan: its schema is not pykexec.plan/1"),
    (b'{"schema": "pykexec.plan/1"}', "a: incomplete plan: backend: missing"),
]


@pytest.mark.parametrize(("raw", "message"), BAD)
def test_what_is_no_plan(raw: bytes, message: str) -> None:
    Path("a").write_bytes(raw)
    with pytest.raises(BadPlan) as raised:
        diff("a", written("b", plan()))
    assert raised.value.message.startswith(message)


def test_a_file_too_large_for_a_plan() -> None:
    with Path("a").open("wb") as file:
        file.truncate(PLAN_MAX + 1)
    with pytest.raises(BadPlan, match=f"a: {PLAN_MAX + 1} bytes; a plan has at most {PLAN_MAX}"):
        diff("a", "a")


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=5), st.none()),
    st.sampled_from(["0x", "-0x1", "0x" + "f" * 17, "1_0", " 0x1"]),
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to every value inside a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, inner in items:
        found.append((*path, key))
        if isinstance(inner, (dict, list)):
            found += places(inner, (*path, key))
    return found


WHOLE = plan(
    K, segment("free", 0x2000, 4096), stage=[K], syscall={"name": "kexec_load", "why": ""}, **BOUND
)


@settings(max_examples=300)
@given(where=st.sampled_from(places(WHOLE)), junk=JUNK)
def test_any_value_anywhere_is_a_difference_or_a_typed_error(
    where: tuple[Any, ...], junk: object
) -> None:
    document = copy.deepcopy(WHOLE)
    holder: Any = document
    for key in where[:-1]:
        holder = holder[key]
    holder[where[-1]] = junk
    try:
        diff(written("a", WHOLE), written("b", document))
    except BadPlan as error:
        assert error.message.startswith(("b: not a ", "b: incomplete plan: "))
        assert len(error.message) < 400
