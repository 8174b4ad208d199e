"""The contents of a guest: an archive that other tools can read, and a Python that runs from it."""

from __future__ import annotations

import gzip
import os
import random
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pykexec.flows.rehearse.qemu import capture_initrd, everything, guest_tree, sized
from pykexec.images.contents import Built, Contents, OpenFile, contents_bytes
from pykexec.images.identify import identify
from pykexec.images.initrd import read_initrd
from pykexec.placement.request import LoadRequest
from pykexec.qemu.board import PC
from pykexec.qemu.first import lent_of
from pykexec.qemu.guest import MOUNTS, NotInAGuest, only_in_a_guest
from pykexec.qemu.newc import Tree
from pykexec.qemu.python import NoPython, OwnPython, loadable, python_tree
from tests.builders import make_bzimage, make_cpio, write


@pytest.fixture(scope="module")
def first() -> Tree:
    return guest_tree("first", everything(), OwnPython())[0]


def unpack(tree: Tree, folder: Path) -> None:
    for name, entry in tree.entries.items():
        path = folder / name
        if stat.S_ISDIR(entry.mode):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(entry.contents)
            path.chmod(stat.S_IMODE(entry.mode))


def test_our_own_reader_takes_the_archive(first: Tree, tmp_path: Path) -> None:
    (tmp_path / "cpio").write_bytes(first.archive())
    found = read_initrd(OpenFile(tmp_path / "cpio"))
    assert [item.files for item in found.archives] == [len(first.entries)]


@pytest.mark.skipif(not shutil.which("cpio"), reason="no cpio here")
def test_cpio_lists_the_archive(first: Tree) -> None:
    done = subprocess.run(["cpio", "-t"], input=first.archive(), capture_output=True, check=True)
    assert set(done.stdout.decode().splitlines()) == set(first.entries)


def test_the_first_kernel_finds_all_that_it_starts(first: Tree) -> None:
    assert {folder.strip("/") for _, folder in MOUNTS} <= set(first.entries)
    assert first.entries["init"].contents.startswith(f"#!{OwnPython().program}\n".encode())
    assert first.entries["init"].mode == stat.S_IFREG | 0o755
    assert not [name for name in first.entries if name.endswith(".py")]


SHOW = """
import pkgutil, sys, pykexec.qemu.first
assert pkgutil.get_data("pykexec.purgatory.x86_64", "stub.bin")
print(*(m.__file__ for m in sys.modules.values() if getattr(m, "__file__", None)))
"""


def test_no_guest_outside_of_a_guest() -> None:
    """The only check that keeps its main() from running on this machine."""
    with pytest.raises(NotInAGuest):
        only_in_a_guest()


def test_the_python_of_a_guest_runs_from_its_tree(first: Tree, tmp_path: Path) -> None:
    """Everything it imports is in the tree."""
    unpack(first, tmp_path)
    done = subprocess.run(
        [f"{tmp_path}{OwnPython().program}", "-S", "-c", SHOW],
        cwd=tmp_path,
        env={"PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    library = Path(str(tmp_path) + os.path.dirname(os.__file__))
    assert [name for name in done.stdout.split() if not Path(name).is_relative_to(library)] == []


def test_the_lent_memory_of_a_plan() -> None:
    """Pages in it are not in the dump: the rehearsal does not expect them."""
    plan = {
        "lent": [{"start": "0x200000", "end": "0x400000"}, {"start": "0x800000", "end": "0x801000"}]
    }
    lent = lent_of(plan)
    assert [at in lent for at in (0x1FF000, 0x200000, 0x3FF000, 0x400000, 0x800000)] == [
        *(False, True, True, False, True)
    ]
    assert not lent_of({"mode": "in-place"})


def test_an_initrd_of_the_user_comes_first(tmp_path: Path) -> None:
    theirs = make_cpio(("init", b"theirs")) + b"\0"
    both = capture_initrd(PC, OwnPython(), Built(theirs))
    (tmp_path / "initrd").write_bytes(contents_bytes(both, 16 << 20))
    found = read_initrd(OpenFile(tmp_path / "initrd"))
    assert [item.codec for item in found.archives] == [None, "gzip"]
    assert found.archives[1].offset == len(theirs) + 3
    assert found.size < 12 << 20


def test_the_window_of_a_rehearsal_has_room_for_both_initrds(tmp_path: Path) -> None:
    """Of two gzip streams in one file, only the last declares its size where it can be read."""
    image = identify(write(tmp_path, "bzImage", make_bzimage()))
    theirs = gzip.compress(make_cpio(("text", random.Random(1).randbytes(8 << 20).hex().encode())))
    file = OpenFile(write(tmp_path, "initrd", theirs))

    def size(before: Contents | None, request: LoadRequest | None = None) -> int | None:
        initrd = capture_initrd(PC, OwnPython(), before)
        return sized(image, replace(request or LoadRequest(), initrd=initrd)).crash_size

    alone, both = size(None), size(file.span(0, file.size))
    assert alone
    assert both
    assert both - alone >= 16 << 20
    assert size(None, LoadRequest(crash_size=1 << 28)) == 1 << 28
    assert size(None, LoadRequest(mem_min=1 << 28, mem_max=1 << 29)) is None


def test_a_library_keeps_what_is_loaded_of_it(tmp_path: Path) -> None:
    """A program without its sections still runs."""
    program = Path("/bin/true").read_bytes()
    padded = loadable(program + b"debug" * 1000)
    assert len(padded) < len(program)
    (tmp_path / "true").write_bytes(padded)
    (tmp_path / "true").chmod(0o755)
    assert subprocess.run([tmp_path / "true"]).returncode == 0
    assert loadable(b"#!/bin/sh\n") == b"#!/bin/sh\n"


def test_nothing_is_written_beside_the_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nobodys_module.py").write_text("answer = 42\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    tree, _ = python_tree(["nobodys_module"])
    assert any(name.endswith("/nobodys_module.pyc") for name in tree.entries)
    assert os.listdir(tmp_path) == ["nobodys_module.py"]


def test_a_module_that_is_not_there() -> None:
    with pytest.raises(NoPython, match="No module named 'no_such_module'"):
        python_tree(["no_such_module"])
