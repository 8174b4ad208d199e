from __future__ import annotations

import json
import os
import resource
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from pykexec.documents.machine import Capture
from pykexec.errors import KexecError, UsageError
from pykexec.host.captured import (
    Captured,
    capture,
    decode,
    encode,
    open_root,
    write_capture,
)
from pykexec.host.facts import read_machine
from pykexec.host.root import BadRoot, Folder
from pykexec.machine import Machine, Unknown
from tests.documents import validate

from .conftest import FILES, KCORE_HEADERS, MakeTree, without

MACHINES: list[tuple[str, dict[str, str | bytes | None]]] = [
    ("complete", {}),
    ("unprivileged", {"/proc/iomem": "00000000-00000000 : System RAM\n", "/proc/kcore": None}),
    ("without PCI and huge pages", {**without("/sys/bus"), **without("/sys/kernel/mm")}),
    ("with a kdump service", {"/etc/kdump.conf": "path /var/crash\n", "/etc/default/grub": None}),
    ("with binary build options", {"/proc/config.gz": b"\x1f\x8b\x08broken"}),
]


def test_the_firmwares_map_is_captured_too(tree: MakeTree) -> None:
    """A plan that is made elsewhere passes on the same map."""
    paths = [path for path in FILES if path.startswith("/sys/firmware/memmap/")]
    assert paths
    root = tree({})
    captured = capture(root)
    assert set(paths) <= set(captured.files)
    again = read_machine(decode(encode(captured), "file"))
    assert again.pc.memory_map == read_machine(root).pc.memory_map
    assert not isinstance(again.pc.memory_map, Unknown)


def nameless(machine: Machine) -> Machine:
    return replace(machine, name="")


@pytest.mark.parametrize("changes", [row[1] for row in MACHINES], ids=[row[0] for row in MACHINES])
def test_captured_machine_reads_the_same(
    tree: MakeTree, tmp_path: Path, changes: dict[str, str | bytes | None]
) -> None:
    root = tree(changes)
    file = tmp_path / "captured.json"
    write_capture(capture(root), file)
    captured = open_root(file)
    assert nameless(read_machine(captured)) == nameless(read_machine(root))
    assert read_machine(captured).name == str(file)


def test_captured_twice_is_the_same_file(tree: MakeTree) -> None:
    root = tree({})
    data = encode(capture(root))
    assert encode(capture(root)) == data
    assert encode(capture(decode(data, "captured"))) == data
    validate(json.loads(data))


def test_mode_is_private(tree: MakeTree, tmp_path: Path) -> None:
    file = tmp_path / "captured.json"
    old = os.umask(0)
    try:
        write_capture(capture(tree({})), file)
    finally:
        os.umask(old)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_old_file_is_kept(tree: MakeTree, tmp_path: Path) -> None:
    file = tmp_path / "captured.json"
    file.write_text("mine")
    with pytest.raises(UsageError, match=r"captured\.json: already exists"):
        write_capture(capture(tree({})), file)
    assert file.read_text() == "mine"


def test_a_disk_that_is_full_keeps_nothing(tree: MakeTree, tmp_path: Path) -> None:
    file = tmp_path / "captured.json"
    captured = capture(tree({}))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(KexecError, match="cannot be written: File too large"):
            write_capture(captured, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not file.exists()


def test_other_processes_are_left_out(tree: MakeTree) -> None:
    captured = capture(tree({"/proc/99/status": "Name:\tsecret\n", "/etc/shadow": "x"}))
    data = encode(captured).decode()
    assert "secret" not in data
    assert "shadow" not in data
    names = captured.folders["/proc"]
    assert isinstance(names, tuple)
    assert [name for name in names if name.isdecimal()] == ["77"]


def test_kernel_memory_is_left_out(tree: MakeTree) -> None:
    kcore = FILES["/proc/kcore"]
    assert isinstance(kcore, bytes)
    captured = capture(tree({"/proc/kcore": kcore + b"key of the disk"}))
    assert captured.files["/proc/kcore"] == KCORE_HEADERS
    assert not [name for name, found in captured.files.items() if found and b"key" in found]


def test_what_was_not_captured(tree: MakeTree) -> None:
    captured = capture(tree({}))
    assert captured.read("/etc/shadow") == Unknown("/etc/shadow: not captured")
    assert captured.entries("/root") == Unknown("/root: not captured")


def document(**changes: object) -> bytes:
    return json.dumps({"schema": Capture.schema, "files": {}, "folders": {}} | changes).encode()


HOSTILE = [
    ("not JSON", b"\0\1", "not a captured machine: "),
    ("nested too deep", b"[" * 100_000, "not a captured machine: "),
    ("a list", b"[]", "not a captured machine: its schema is not pykexec.capture/1"),
    ("another schema", document(schema="x"), "its schema is not pykexec.capture/1"),
    ("no files", document(files=[]), "not a captured machine: files: expected "),
    ("a relative path", document(files={"etc": {}}), "not an absolute path: 'etc'"),
    (
        "a way up",
        document(folders={"/proc/../etc": {}}),
        "not an absolute path: '/proc/../etc'",
    ),
    ("a path of two lines", document(folders={"/a\nb": {}}), "not an absolute path: '/a\\nb'"),
    ("a number", document(files={"/a": 1}), "not a captured machine: files: "),
    ("nothing", document(files={"/a": {}}), "/a: neither text, base64 nor unknown"),
    ("bad base64", document(files={"/a": {"base64": "%"}}), "/a: "),
    ("not base64", document(files={"/a": {"base64": "\u00e9"}}), "/a: "),
    (
        "an entry with a slash",
        document(folders={"/a": {"entries": ["b/c"]}}),
        "/a: neither entries nor unknown",
    ),
    ("an entry up", document(folders={"/a": {"entries": [".."]}}), "/a: neither entries"),
    (
        "entries that are numbers",
        document(folders={"/a": {"entries": [1]}}),
        "folders: entries: expected text, found 1",
    ),
]


@pytest.mark.parametrize(
    ("data", "message"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE]
)
def test_hostile_file(tmp_path: Path, data: bytes, message: str) -> None:
    file = tmp_path / "bad.json"
    file.write_bytes(data)
    with pytest.raises(BadRoot) as caught:
        open_root(file)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{file}: ")


def test_a_part_that_is_shorter_than_its_name_says() -> None:
    machine = Captured("m", {"/proc/kcore@0x10+0x8": b"1234567"}, {})
    assert machine.part("/proc/kcore", 0x10, 8) == Unknown(
        "/proc/kcore: 7 of 8 bytes at 0x10 were captured"
    )


def test_lone_surrogate_is_no_crash() -> None:
    data = document(files={"/proc/cmdline": {"text": "\ud800"}})
    assert read_machine(decode(data, "x")).cmdline == "?"


def test_large_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "big.json"
    file.write_bytes(document())
    monkeypatch.setattr("pykexec.host.captured.FILE_MAX", 10)
    with pytest.raises(BadRoot, match=r"big\.json: larger than 10 bytes"):
        open_root(file)


def test_missing_root(tmp_path: Path) -> None:
    with pytest.raises(BadRoot, match="missing: no such file or directory"):
        open_root(tmp_path / "missing")


def test_fifo_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(BadRoot, match="fifo: neither a folder nor a captured machine"):
        open_root(tmp_path / "fifo")


def test_folder_is_a_root(tmp_path: Path) -> None:
    assert open_root(tmp_path) == Folder(tmp_path)
