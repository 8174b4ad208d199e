"""Contents longer than one chunk are read unchanged."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
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
from tests.builders import make_bzimage, write

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
    with pytest.raises(UnreadableFile, match=f"{len(DATA):#x} bytes exceed the limit of 0x10"):
        contents_bytes(span, 0x10)


def test_a_file_is_known_without_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chroot or an early initramfs has no /proc; a directory, a pipe and a device are refused."""
    assert OpenFile(write(tmp_path, "k", b"abc")).size == 3
    os.mkfifo(tmp_path / "pipe")
    for path, what in (
        (tmp_path, "a folder, not a regular file"),
        (tmp_path / "pipe", "not a regular file"),
        (Path("/dev/null"), "not a regular file"),
    ):
        with pytest.raises(UnreadableFile, match=f"{path}: {what}"):
            OpenFile(path)


NO_PROC = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
assert not libc.unshare(0x20000) and not libc.mount(None, b"/", None, 1 << 18 | 1 << 14, None)
assert not libc.mount(b"none", b"/proc", b"tmpfs", 0, None)
from pykexec.images.identify import identify
print(identify(sys.argv[1]).type, os.listdir("/proc"))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to cover /proc")
def test_an_image_is_read_without_proc(tmp_path: Path) -> None:
    path = write(tmp_path, "k", make_bzimage())
    done = subprocess.run(
        [sys.executable, "-c", NO_PROC, path], capture_output=True, text=True, check=False
    )
    if "AssertionError" in done.stderr:
        pytest.skip("no mount namespace here")
    assert (done.returncode, done.stdout) == (0, "bzImage64 []\n")
