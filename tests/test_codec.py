"""JSON as documents: what is refused, and the location that the error names."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.documents.codec import decode, encode, plain
from pykexec.documents.plan import PlanDocument
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
