from __future__ import annotations

import os
from pathlib import Path

import pytest

from pykexec.host import root as root_module
from pykexec.host.root import Folder, first_number, flag, number
from pykexec.machine import Unknown


def test_read_has_a_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    root = Folder(tmp_path)
    assert root.read("/file", 5) == b"12345"
    assert root.read("/file", 4) == Unknown("/file: larger than 4 bytes")
    assert root.head("/file", 4) == b"1234"


def test_link_inside_is_followed(tmp_path: Path) -> None:
    (tmp_path / "devices").mkdir()
    (tmp_path / "devices" / "config").write_bytes(b"x")
    (tmp_path / "link").symlink_to("devices")
    root = Folder(tmp_path)
    assert root.read("/link/config") == b"x"
    assert root.entries("/link") == ("config",)


WAYS_OUT = ["/absolute", "/relative", "/../outside", "/folder/outside"]


@pytest.mark.parametrize("path", WAYS_OUT)
def test_folder_is_not_left(tmp_path: Path, path: str) -> None:
    (tmp_path / "outside").write_bytes(b"secret")
    captured = tmp_path / "captured"
    captured.mkdir()
    (captured / "absolute").symlink_to(tmp_path / "outside")
    (captured / "relative").symlink_to("../outside")
    (captured / "folder").symlink_to("..")
    assert Folder(captured).read(path) == Unknown(f"{path}: leads out of the folder")


def test_folder_with_a_longer_name_is_outside(tmp_path: Path) -> None:
    (tmp_path / "captured").mkdir()
    (tmp_path / "captured-too").write_bytes(b"x")
    (tmp_path / "captured" / "link").symlink_to("../captured-too")
    found = Folder(tmp_path / "captured").read("/link")
    assert found == Unknown("/link: leads out of the folder")


def test_fifo_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert Folder(tmp_path).read("/fifo") == Unknown("/fifo: not a regular file")


def test_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert Folder(tmp_path).read("/folder") == Unknown("/folder: not a regular file")


def test_many_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(root_module, "ENTRIES_MAX", 2)
    for name in "abc":
        (tmp_path / name).touch()
    assert Folder(tmp_path).entries("/") == Unknown("/: more than 2 entries")


def test_lines_are_found_whole_and_once(tmp_path: Path) -> None:
    filler = "filler\n" * 200_000  # more than one read
    (tmp_path / "lines").write_text(f"a hit, a hit\n{filler}hit\n{filler}last hit")
    root = Folder(tmp_path)
    assert root.matching_lines("/lines", "hit") == ("a hit, a hit", "hit", "last hit")
    assert root.matching_lines("/lines", "hit\n") == ("a hit, a hit", "hit")


def test_lines_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lines").write_text("one\ntwo\nthree\n")
    root = Folder(tmp_path)
    assert root.matching_lines("/lines", "^t") == ("two", "three")
    monkeypatch.setattr(root_module, "LINES_MAX", 8)
    assert root.matching_lines("/lines", "^o") == Unknown("/lines: larger than 8 bytes")


NUMBERS = [
    ("decimal", "65536\n", 10, 65536),
    ("negative: no limit", "-1\n", 10, -1),
    ("hex", "3a001000\n", 16, 0x3A001000),
    ("hex with 0x", "0x9fbff\n", 16, 0x9FBFF),
    ("empty", "", 10, Unknown("/n: not a number: ''")),
    ("a word", "yes", 10, Unknown("/n: not a number: 'yes'")),
    ("thousands of digits", "9" * 5000, 10, Unknown("/n: larger than 4096 bytes")),
]


@pytest.mark.parametrize(
    ("text", "base", "value"), [row[1:] for row in NUMBERS], ids=[row[0] for row in NUMBERS]
)
def test_number(tmp_path: Path, text: str, base: int, value: int | Unknown) -> None:
    (tmp_path / "n").write_text(text)
    assert number(Folder(tmp_path), "/n", base) == value


def test_first_number(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("1")
    root = Folder(tmp_path)
    assert first_number(root, "/new", "/old") == 1
    assert first_number(root, "/a", "/b") == Unknown("/b: no such file or directory")


def test_flag() -> None:
    assert flag(0) is False
    assert flag(1) is True
    assert flag(Unknown("x")) == Unknown("x")
