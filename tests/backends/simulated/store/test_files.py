"""Copies bytes from file to file: in the kernel if possible, otherwise through user space."""

from __future__ import annotations

from pathlib import Path

import pytest

from pykexec.backends.simulated.store.files import CHUNK, copy_all, fill_all, open_own

DATA = bytes(range(1, 251)) * 40


@pytest.fixture
def fd(tmp_path: Path) -> int:
    (tmp_path / "file").write_bytes(DATA)
    return open_own(tmp_path / "file", 2)


def test_a_copy_is_padded_with_zeros(fd: int, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"\xff" * 30_000)
    copy_all(fd, open_own(other, 2), 20_000, 1000, 5000)
    expected = b"\xff" * 5000 + DATA[1000:].ljust(20_000, b"\0") + b"\xff" * 5000
    same = other.read_bytes() == expected
    assert same


def test_what_the_kernel_refuses_to_copy_is_copied_all_the_same(fd: int, tmp_path: Path) -> None:
    """EINVAL: the two places in one file overlap. Other kernels return other errors."""
    copy_all(fd, fd, 5000, 0, 100)
    same = (tmp_path / "file").read_bytes() == DATA[:100] + DATA[:5000] + DATA[5100:]
    assert same


def test_another_error_is_one(fd: int) -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        copy_all(fd, -1, 5000, 0, 0)


def test_a_byte_many_times(fd: int, tmp_path: Path) -> None:
    fill_all(fd, b"k", CHUNK + 7, 3)
    same = (tmp_path / "file").read_bytes() == DATA[:3] + b"k" * (CHUNK + 7)
    assert same
