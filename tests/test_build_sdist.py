"""The source release: complete, and always the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

import pykexec

ROOT = Path(__file__).resolve().parents[1]
NAME = f"pykexec-{pykexec.__version__}"

pytestmark = pytest.mark.timeout(300)


def build(folder: Path) -> Path:
    pytest.importorskip("setuptools", reason="no setuptools to build with", minversion="77")
    command = [sys.executable, str(ROOT / "scripts/build-sdist"), "--output", str(folder)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("sdist"))


def test_every_file_of_the_repository_is_in_it(sdist: Path) -> None:
    command = ["git", "-C", str(ROOT), "ls-files", "-z"]
    listed = subprocess.run(command, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("these sources are not a git repository")
    with tarfile.open(sdist) as archive:
        held = {name.removeprefix(f"{NAME}/") for name in archive.getnames()}
    wanted = {name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()}
    assert wanted - held == {".gitignore"}
    assert not [name for name in held if name.endswith((".pyc", ".egg-info"))]


def test_it_is_always_the_same(sdist: Path, tmp_path: Path) -> None:
    time.sleep(1.1)  # dates of a tar file are whole seconds
    assert build(tmp_path).read_bytes() == sdist.read_bytes()


def test_nothing_of_this_machine_is_in_it(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    assert {(item.uid, item.gid, item.uname, item.gname) for item in members} == {(0, 0, "", "")}
    assert {item.mtime for item in members} == {1700000000}
    assert {item.mode for item in members} == {0o755, 0o644}


def test_what_was_unpacked_is_a_package(sdist: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pykexec", "--version"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / NAME)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"pykexec {pykexec.__version__}\n"
    information = (tmp_path / NAME / "PKG-INFO").read_text()
    assert "\nAuthor: pykexec developers\n" in information
    assert os.access(tmp_path / NAME / "scripts/test", os.X_OK)
