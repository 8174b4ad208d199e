"""A digest started early is correct, and nothing waits for one that is not needed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from pykexec.images.contents import FileSpan, OpenFile, UnreadableFile
from pykexec.images.digest_ahead import WORTHWHILE, CopyAhead, DigestAhead, digest_ahead

SLOW_READER = """
import sys, time
from pykexec.images.digest_ahead import DigestAhead

class Endless:
    size = 1 << 40
    def chunks(self):
        while True:
            time.sleep(0.01)
            yield bytes(1 << 16)

DigestAhead(Endless())
sys.exit(7)
"""


def spanned(folder: Path, size: int) -> FileSpan:
    path = folder / "initrd"
    with open(path, "wb") as file:
        file.write(b"begin")
        file.truncate(size)
    return FileSpan(OpenFile(path), 0, size)


def test_the_digest_is_that_of_the_contents(tmp_path: Path) -> None:
    span = spanned(tmp_path, WORTHWHILE + 5)
    ahead = digest_ahead(span)
    assert isinstance(ahead, DigestAhead)
    expected = hashlib.sha256(b"begin".ljust(WORTHWHILE + 5, b"\0")).digest()
    assert ahead.sha256 == expected
    assert ahead.size == span.size


def test_small_contents_are_left_alone(tmp_path: Path) -> None:
    span = spanned(tmp_path, 5)
    assert digest_ahead(span) is span
    assert digest_ahead(None) is None


def test_a_fault_is_raised_to_whoever_asks(tmp_path: Path) -> None:
    span = spanned(tmp_path, 100)
    (tmp_path / "initrd").write_bytes(b"")
    with pytest.raises(UnreadableFile, match="ends early"):
        DigestAhead(span).sha256  # noqa: B018


def test_the_end_of_the_process_does_not_wait_for_it() -> None:
    """It would never end."""
    done = subprocess.run([sys.executable, "-c", SLOW_READER], timeout=120, check=False)
    assert done.returncode == 7


def test_a_copy_is_what_was_digested(tmp_path: Path) -> None:
    span = spanned(tmp_path, WORTHWHILE + 5)
    ahead = digest_ahead(span, copy=True)
    assert isinstance(ahead, CopyAhead)
    digest = ahead.sha256
    (tmp_path / "initrd").write_bytes(b"other")
    assert hashlib.sha256(ahead.memory).digest() == digest
    assert ahead.memory[:6] == b"begin\0"


def test_a_size_that_no_memory_holds_names_the_file(tmp_path: Path) -> None:
    span = spanned(tmp_path, WORTHWHILE)
    absurd = FileSpan(span.file, 0, 1 << 62)
    with pytest.raises(UnreadableFile, match="initrd: 0x4000000000000000 bytes do not fit"):
        digest_ahead(absurd, copy=True)
