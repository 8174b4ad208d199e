"""An installed package works outside the checkout: package data, entry points, man pages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import pykexec

from .builders import make_bzimage

ROOT = Path(__file__).resolve().parents[1]
SOURCES = (
    "pykexec",
    "man",
    "completions",
    "systemd",
    "capture",
    "module",
    "setup.cfg",
    "pyproject.toml",
    "README.md",
    "LICENSE",
)

pytestmark = pytest.mark.timeout(300)


def pip(*words: str | Path) -> None:
    """The build is not isolated: it uses the environment's setuptools, without network access."""
    command = [sys.executable, "-m", "pip", *map(str, words), "--no-deps", "--no-build-isolation"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def source_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files of a release, because a build writes next to them."""
    pytest.importorskip("setuptools", reason="no setuptools to build with", minversion="77")
    copy = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", ".*")
            shutil.copytree(ROOT / name, copy / name, ignore=ignored)
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, copy)
    return copy


@pytest.fixture(scope="session")
def target(source_copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("target")
    pip("install", "--target", folder, source_copy)
    return folder


@pytest.fixture(scope="session")
def wheel(source_copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--wheel-dir", folder, source_copy)
    (found,) = folder.glob("*.whl")
    return found


def run(target: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m pykexec` from the target folder, and from nowhere else."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "pykexec", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
    )


def test_version(target: Path, tmp_path: Path) -> None:
    done = run(target, tmp_path, "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert pykexec.__version__ in done.stdout


def test_the_target_folder_is_what_runs(target: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", "import pykexec; print(pykexec.__file__)"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
    )
    assert Path(done.stdout.strip()) == target / "pykexec" / "__init__.py"


def test_a_dry_run(target: Path, tmp_path: Path) -> None:
    """Needs the stub, which is package data."""
    (tmp_path / "vmlinuz").write_bytes(make_bzimage())
    done = run(target, tmp_path, "load", "vmlinuz", "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["schema"] == "pykexec.plan/1"


def test_every_file_is_installed(target: Path) -> None:
    files = [path for path in (ROOT / "pykexec").rglob("*") if path.is_file()]
    files = [path.relative_to(ROOT) for path in files if "__pycache__" not in path.parts]
    assert Path("pykexec/py.typed") in files
    assert {Path(f"pykexec/purgatory/x86_64/{name}.bin") for name in ("stub", "real_mode")} <= set(
        files
    )
    assert [path for path in files if not (target / path).exists()] == []


def test_wheel(wheel: Path) -> None:
    """For every machine; man pages and completions go where man and the shells look."""
    assert wheel.name == f"pykexec-{pykexec.__version__}-py3-none-any.whl"
    names = zipfile.ZipFile(wheel).namelist()
    prefix = f"pykexec-{pykexec.__version__}"
    assert "pykexec/py.typed" in names
    assert {f"pykexec/purgatory/x86_64/{name}.bin" for name in ("stub", "real_mode")} <= set(names)
    for page in (ROOT / "man").iterdir():
        section = page.suffix.removeprefix(".")
        assert f"{prefix}.data/data/share/man/man{section}/{page.name}" in names
    for file in (
        "pykexec/module/pykexec_region.c",
        "pykexec/module/dkms.conf",
        "pykexec/module/LICENSE",
        "bash-completion/completions/pykexec",
        "bash-completion/completions/pykexec-kexec",
        "zsh/site-functions/_pykexec",
        "fish/vendor_completions.d/pykexec.fish",
    ):
        assert f"{prefix}.data/data/share/{file}" in names
    assert {name.split("/")[0] for name in names} <= {
        "pykexec",
        f"{prefix}.data",
        f"{prefix}.dist-info",
    }


def test_entry_points(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        name = f"pykexec-{pykexec.__version__}.dist-info/entry_points.txt"
        text = archive.read(name).decode()
    assert "pykexec = pykexec.cli:main" in text
    assert "pykexec-kexec = pykexec.cli.kexec8:main" in text
    assert "pykexec-vmcore-dmesg = pykexec.vmcore_dmesg:main" in text
