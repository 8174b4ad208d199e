"""Changes to bytes, drawn by hypothesis."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from tests.fuzz.json_places import VALUES, places

TELLING = [0, 1, 0x7F, 0x80, 0xFFF, 0x1000, 0x7FFF, 0xFFFF, (1 << 31) - 1, (1 << 64) - 1]
EDITS = st.one_of(
    st.tuples(
        st.just("number"), st.sampled_from(TELLING), st.sampled_from([1, 2, 4, 8]), st.booleans()
    ),
    st.tuples(st.just("bytes"), st.binary(max_size=8)),
    st.tuples(st.just("text"), st.sampled_from(
        [b"-1", b"0x", b"null", b"true", b"1e9", b"[]", b"{}", b'"', b"\n", b"9" * 30, b"\xff"]
    )),
    st.tuples(st.just("cut"), st.integers(1, 64)),
    st.tuples(st.just("again"), st.integers(1, 64)),
)  # fmt: skip


def edited(raw: bytearray, at: int, edit: tuple[object, ...]) -> None:
    """One change, in place."""
    match edit:
        case ("number", int(value), int(size), bool(big)):
            mask = (1 << 8 * size) - 1
            raw[at : at + size] = (value & mask).to_bytes(size, "big" if big else "little")
        case ("bytes" | "text", bytes(new)):
            raw[at:at] = new
        case ("cut", int(size)):
            del raw[at : at + size]
        case ("again", int(size)):
            raw[at:at] = raw[at : at + size]


def damage(raw: bytearray, data: st.DataObject, near: int) -> None:
    """Up to five changes, most of them in the first `near` bytes, and possibly an early end. A JSON
    document may stay valid, with another value somewhere."""
    if raw.startswith(b"{") and data.draw(st.booleans()):
        document = json.loads(raw)
        for _ in range(data.draw(st.integers(1, 3))):
            where = data.draw(st.sampled_from(places(document)))
            where.replace(data.draw(st.sampled_from(VALUES)))
        raw[:] = json.dumps(document).encode()
        return
    for edit in data.draw(st.lists(EDITS, max_size=5)):
        close = st.integers(0, min(len(raw), near))
        edited(raw, data.draw(close | st.integers(0, len(raw))), edit)
    keep = data.draw(st.just(len(raw)) | st.integers(0, len(raw)))
    del raw[keep:]
