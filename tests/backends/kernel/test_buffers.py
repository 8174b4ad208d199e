"""The bytes that the kernel would read at the addresses that it is passed."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest

from pykexec.backends.kernel.buffers import initrd_fd, syscall_segments
from pykexec.images.contents import Built, Contents, FileSpan, Joined, OpenFile
from pykexec.images.digest_ahead import CopyAhead
from pykexec.placement.segment import Segment, SegmentTable
from tests.builders import segment, write

DATA = bytes(range(256)) * 100


@pytest.fixture
def file(tmp_path: Path) -> OpenFile:
    return OpenFile(write(tmp_path, "file", DATA))


def test_each_segment_has_its_bytes(file: OpenFile) -> None:
    contents: list[Contents] = [
        FileSpan(file, 0, file.size),
        FileSpan(file, 4097, 5000),
        Built(b"built"),
        Joined((Built(b"ab"), FileSpan(file, 1, 3))),
        CopyAhead(FileSpan(file, 0, file.size)),
    ]
    segments = [Segment("x", 0x1000 * n, 0x8000, "", item) for n, item in enumerate(contents)]
    table = SegmentTable((*segments, segment("gap", 0x100000, 0x1000)), 0)
    with syscall_segments(table) as found:
        raw = [ctypes.string_at(addr, size) if addr else b"" for addr, size, _, _ in found]
    assert raw == [DATA, DATA[4097:9097], b"built", b"ab\1\2\3", DATA, b""]
    assert found[-1] == (0, 0, 0x100000, 0x1000)


def test_one_file_is_handed_over_as_it_is(file: OpenFile) -> None:
    with initrd_fd(FileSpan(file, 0, file.size)) as fd:
        assert fd == file.fd
    with initrd_fd(None) as fd:
        assert fd == -1


def test_several_are_joined_in_memory(file: OpenFile) -> None:
    with initrd_fd(Joined((FileSpan(file, 0, 4), Built(b"xyz")))) as fd:
        assert os.read(fd, 100) == DATA[:4] + b"xyz"
