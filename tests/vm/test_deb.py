"""The Debian package, installed by dpkg into a Debian 12 tree, and removed again: with the oldest
Python packages that pykexec supports, which are those of Debian 12. It takes root, but no guest."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import make_bzimage
from tests.dump.builders import Memory, kdump
from tests.test_build_deb import build

from .debian import Unavailable, package_tree
from .supplies import DEFAULT_SERIES, TOOLS_SUITE, kernel
from .system import debian_system

LIBRARIES = ("python3-click", "python3-construct", "python3-pyelftools", "python3-rich")
BASE_PYTHON = ("python3-minimal", "python3-distutils", "python3-lib2to3")
PAGES = (
    ("--help",),
    ("load", "--help"),
    ("inspect", "/tmp/vmlinuz"),
    ("rehearse", "/tmp/vmlinuz", "--memory", "128M", "--crash-size", "32M"),
    ("vmcore", "info", "/tmp/dump"),
    ("explain", "no-dump"),
)
"""Commands whose page must be the same with the oldest and the newest packages."""


def library(name: str) -> Path:
    """A Python package of Debian 12, with what it needs that is Python as well."""
    return package_tree(
        TOOLS_SUITE, name, lambda item: item.startswith("python3-") and item not in BASE_PYTHON
    )


@pytest.fixture(scope="module")
def tree() -> Iterator[Path]:
    """A system with the libraries, and pykexec installed."""
    if os.geteuid() != 0 or shutil.which("dpkg-deb") is None:
        raise Unavailable("installing a package into a tree takes root and dpkg")
    system = debian_system(kernel(DEFAULT_SERIES))
    with tempfile.TemporaryDirectory(prefix="pykexec-deb-") as folder:
        root = Path(folder) / "root"
        subprocess.run(["cp", "-a", system.root, root], check=True)
        for name in LIBRARIES:
            subprocess.run(["cp", "-a", library(name) / "usr", root], check=True)
        (root / "var/lib/dpkg/status").touch()
        (root / "tmp/vmlinuz").write_bytes(make_bzimage())
        (root / "tmp/dump").write_bytes(kdump(Memory()))
        deb = build(Path(folder))["pykexec"]
        done = dpkg(root, "--install", str(deb))
        assert done.returncode == 0, done.stderr
        yield root


def dpkg(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Of the tree's own status file, which has no package but ours."""
    command = ["dpkg", f"--root={root}", "--force-depends", *words]
    return subprocess.run(command, capture_output=True, text=True)


def inside(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/sbin:/usr/bin", "HOME": "/tmp", "PYKEXEC_BACKEND": "simulated"}
    command = ["chroot", str(root), "pykexec", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_the_libraries_are_the_oldest_supported(tree: Path) -> None:
    code = (
        "import click, construct, elftools, importlib.metadata as m;"
        "print(m.version('click'), construct.__version__, elftools.__version__, m.version('rich'))"
    )
    done = subprocess.run(
        ["chroot", str(tree), "python3", "-c", code], capture_output=True, text=True
    )
    assert done.stdout.split() == ["8.1.3", "2.10.68", "0.29", "13.3.1"], done.stderr
    missing = subprocess.run(["chroot", str(tree), "python3", "-c", "import mashumaro"])
    assert missing.returncode != 0


@pytest.mark.parametrize("words", PAGES, ids=" ".join)
def test_what_is_printed_is_the_same(tree: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    theirs = inside(tree, *words)
    assert theirs.returncode == 0, theirs.stderr
    (tmp_path / "vmlinuz").write_bytes(make_bzimage())
    (tmp_path / "dump").write_bytes(kdump(Memory()))
    ours = subprocess.run(
        ["pykexec", *(word.replace("/tmp/", f"{tmp_path}/") for word in words)],
        capture_output=True,
        text=True,
        env=os.environ | {"XDG_STATE_HOME": str(tmp_path), "PYKEXEC_BACKEND": "simulated"},
    )
    assert theirs.stdout == ours.stdout.replace(f"{tmp_path}/", "/tmp/")


def test_a_document_without_mashumaro(tree: Path) -> None:
    done = inside(tree, "inspect", "/tmp/vmlinuz", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["schema"] == "pykexec.image/1"


def test_a_table_on_a_terminal(tree: Path) -> None:
    """Drawn by Debian's rich."""
    ours, theirs = pty.openpty()
    environment = {"PATH": "/usr/sbin:/usr/bin", "HOME": "/tmp", "TERM": "xterm"}
    done = subprocess.run(
        ["chroot", str(tree), "pykexec", "inspect", "/tmp/vmlinuz"],
        stdout=theirs,
        stderr=subprocess.PIPE,
        env=environment,
    )
    os.close(theirs)
    drawn = b""
    while piece := read(ours):
        drawn += piece
    os.close(ours)
    assert done.returncode == 0, done.stderr
    assert b"bzImage64" in drawn


def read(fd: int) -> bytes:
    """What the terminal has; nothing once it is closed."""
    try:
        return os.read(fd, 1 << 16)
    except OSError:
        return b""


def test_the_units_are_valid(tree: Path) -> None:
    """By the tree's own systemd."""
    units = [str(path.relative_to(tree)) for path in tree.glob("usr/lib/systemd/system/pykexec*")]
    assert units
    command = ["chroot", str(tree), "systemd-analyze", "verify", "--man=no"]
    done = subprocess.run(
        [*command, *(f"/{name}" for name in units)], capture_output=True, text=True
    )
    wrong = [line for line in done.stderr.splitlines() if "pykexec" in line]
    assert wrong == [], done.stderr


def test_removing_it_leaves_nothing(tree: Path) -> None:
    """Last: the tree is without it afterwards."""
    done = dpkg(tree, "--purge", "pykexec")
    assert done.returncode == 0, done.stderr
    assert not [path for path in tree.rglob("*pykexec*") if "tmp" not in path.parts]
