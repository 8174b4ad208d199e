"""The digest of a large file, begun early: the same digest, and the same errors."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pykexec.images.contents import FileSpan, OpenFile, UnreadableFile
from pykexec.images.digest_ahead import WORTHWHILE, DigestAhead, digest_ahead


def contents(path: Path, size: int) -> FileSpan:
    path.write_bytes(b"x" * size)
    return FileSpan(OpenFile(path), 0, size)


def test_the_same_bytes_and_digest(tmp_path: Path) -> None:
    plain = contents(tmp_path / "initrd", 3 << 20)
    ahead = DigestAhead(plain)
    assert ahead.sha256 == hashlib.sha256(b"x" * (3 << 20)).digest()
    assert ahead.size == plain.size
    assert b"".join(ahead.chunks()) == b"x" * (3 << 20)


def test_only_where_it_is_worth_it(tmp_path: Path) -> None:
    small = contents(tmp_path / "small", 1)
    assert digest_ahead(None) is None
    assert digest_ahead(small) is small
    assert isinstance(digest_ahead(contents(tmp_path / "large", WORTHWHILE)), DigestAhead)


def test_an_error_is_raised_where_the_digest_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "initrd").write_bytes(b"x")
    ahead = DigestAhead(FileSpan(OpenFile(tmp_path / "initrd"), 0, 2))
    for _ in range(2):
        with pytest.raises(UnreadableFile, match="ends early"):
            _ = ahead.sha256
