"""A guest's Python from an unpacked system: here one that is made of this Python's own files."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from pykexec.arch import ARCHITECTURES, Arch, arch_named
from pykexec.qemu.python import NoPython, OwnPython, python_tree, shared_libraries
from pykexec.qemu.unpacked_python import VERSION, UnpackedPython
from tests.qemu.test_guests import unpack

OWN = OwnPython()
LIBRARY = f"usr/lib/python{VERSION}"
SHOW = """
import ctypes, json, mmap, sys, click, elftools.elf.elffile
print(*(m.__file__ for m in sys.modules.values() if getattr(m, "__file__", None)))
"""
IMPORTED = ["ctypes", "json", "mmap", "click", "elftools.elf.elffile", "encodings.ascii"]


@pytest.fixture(scope="module")
def here() -> Arch:
    found = arch_named(platform.machine())
    assert found
    return found


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("system")
    skip = shutil.ignore_patterns(
        "test", "tests", "site-packages", "dist-packages", "*.pyc", "idlelib"
    )
    shutil.copytree(OWN.library, root / LIBRARY, ignore=skip)
    (root / "usr/bin").mkdir()
    shutil.copy(OWN.program, root / f"usr/bin/python{VERSION}")
    for library in shared_libraries([OWN.program, *(root / LIBRARY).rglob("*.so")])[0]:
        place = (
            root / str(library)[1:] if "ld-linux" in library.name else root / "lib64" / library.name
        )
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, place)
    return root


def test_it_runs_from_its_tree(system: Path, here: Arch, tmp_path: Path) -> None:
    """With the modules of other packages that this Python has."""
    tree, library_path = python_tree(IMPORTED, UnpackedPython(system, here))
    assert "/lib64" in library_path.split(":")
    unpack(tree, tmp_path)
    places = ":".join(f"{tmp_path}{place}" for place in library_path.split(":"))
    done = subprocess.run(
        [tmp_path / f"usr/bin/python{VERSION}", "-S", "-c", SHOW],
        cwd=tmp_path,
        env={"PYTHONHASHSEED": "0", "LD_LIBRARY_PATH": places},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    library = tmp_path / LIBRARY
    assert [name for name in done.stdout.split() if not Path(name).is_relative_to(library)] == []


def test_a_library_that_is_missing(system: Path, here: Arch, tmp_path: Path) -> None:
    shutil.copytree(system / "usr/bin", tmp_path / "usr/bin")
    python = UnpackedPython(tmp_path, here)
    found, missing = python.libraries([python.here(python.program)])
    assert found == []
    assert any("ld-linux" in name for name in missing)


def test_a_module_that_is_missing(system: Path, here: Arch, tmp_path: Path) -> None:
    shutil.copytree(system / "usr/bin", tmp_path / "usr/bin")
    with pytest.raises(NoPython, match="has no module"):
        python_tree(["json"], UnpackedPython(tmp_path, here))


def test_a_folder_without_this_version(tmp_path: Path, here: Arch) -> None:
    with pytest.raises(NoPython, match=f"no usr/bin/python{VERSION}$") as caught:
        UnpackedPython(tmp_path, here)
    remedy = f"use an unpacked system with Python {VERSION}, which runs pykexec here"
    assert str(caught.value.remedy).startswith(remedy)
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/python3.99").touch()
    with pytest.raises(NoPython, match=r"only python3\.99") as caught:
        UnpackedPython(tmp_path, here)
    assert str(caught.value.remedy).endswith(", or run pykexec with python3.99")
    (tmp_path / f"usr/bin/python{VERSION}").symlink_to(OWN.program)  # out of the folder
    with pytest.raises(NoPython, match="no usr/bin/python"):
        UnpackedPython(tmp_path, here)


def test_another_architecture(system: Path, here: Arch) -> None:
    other = next(arch for arch in ARCHITECTURES if arch.elf_machine != here.elf_machine)
    with pytest.raises(NoPython, match="another architecture"):
        UnpackedPython(system, other)


def test_a_program_that_is_none(tmp_path: Path, here: Arch) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / f"usr/bin/python{VERSION}").write_text("#!/bin/sh\n")
    with pytest.raises(NoPython, match="headers cannot be read"):
        UnpackedPython(tmp_path, here)
