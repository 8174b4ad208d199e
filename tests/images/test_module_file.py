"""The bytes of a module's file that a multiboot image gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from pykexec.errors import KexecError, UsageError
from pykexec.images.contents import contents_bytes
from pykexec.images.module_file import module_contents
from tests.builders import MIB, make_cpio, pack, write

DATA = bytes(range(256)) * 1000


@pytest.mark.parametrize("codec", [None, "gzip", "xz", "bzip2", "lzma", "zstd", "lz4"])
def test_a_compressed_file_is_unpacked(tmp_path: Path, codec: str | None) -> None:
    if codec in ("zstd", "lz4"):
        pytest.importorskip("zstandard" if codec == "zstd" else codec)
    path = write(tmp_path, "mod", pack(DATA, codec) if codec else DATA)
    for line in (str(path), f"{path} its string"):
        assert contents_bytes(module_contents(line), MIB) == DATA


def test_two_streams_are_one_file_and_a_cpio_is_unpacked_too(tmp_path: Path) -> None:
    path = write(tmp_path, "two", pack(DATA, "gzip") * 2)
    assert contents_bytes(module_contents(str(path)), MIB) == DATA * 2
    archive = make_cpio(("init", b"x"))
    path = write(tmp_path, "initrd", pack(archive, "xz"))
    assert contents_bytes(module_contents(str(path)), MIB) == archive


def test_an_empty_file_is_a_module(tmp_path: Path) -> None:
    assert module_contents(str(write(tmp_path, "empty", b""))).size == 0


def test_what_cannot_be_unpacked_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "mod", pack(DATA, "gzip")[:-20])
    with pytest.raises(KexecError, match=f"{path}: cannot unpack gzip"):
        module_contents(str(path))


@pytest.mark.parametrize("line", ["", " args"])
def test_a_string_without_a_file(line: str) -> None:
    with pytest.raises(UsageError, match=r"^module .* does not begin with a file name"):
        module_contents(line)
