"""Contents that are longer than one chunk come out as they are in the file."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from pykexec.images.contents import (
    CHUNK,
    Built,
    Contents,
    FileSpan,
    Joined,
    OpenFile,
    UnreadableFile,
    contents_bytes,
)

DATA = random.Random(1).randbytes(2 * CHUNK + 5)


@pytest.fixture
def span(tmp_path: Path) -> FileSpan:
    path = tmp_path / "file"
    path.write_bytes(b"head" + DATA)
    return FileSpan(OpenFile(path), 4, len(DATA))


def test_all_at_once(span: FileSpan) -> None:
    assert contents_bytes(span, len(DATA)) == DATA
    assert contents_bytes(Joined((Built(b"x"), span)), 3 * CHUNK) == b"x" + DATA


@pytest.mark.parametrize("wrap", [lambda span: span, lambda span: Joined((span,))])
def test_digest(span: FileSpan, wrap: object) -> None:
    contents: Contents = wrap(span)  # type: ignore[operator]
    assert contents.sha256 == hashlib.sha256(DATA).digest()


def test_too_much_at_once(span: FileSpan) -> None:
    with pytest.raises(UnreadableFile, match=f"{len(DATA):#x} bytes, at most 0x10 are"):
        contents_bytes(span, 0x10)
