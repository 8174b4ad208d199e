"""The Debian packages, as files; tests/vm/test_deb.py installs them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pykexec

ROOT = Path(__file__).resolve().parents[1]

pytestmark = [
    pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed"),
    pytest.mark.timeout(300),
]


def build(folder: Path, root: Path = ROOT) -> dict[str, Path]:
    """Each package by its name."""
    command = [sys.executable, str(root / "scripts/build-deb"), "--output", str(folder)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return {Path(line).name.split("_")[0]: Path(line) for line in done.stdout.splitlines()}


def dpkg_deb(*words: str | Path) -> str:
    return subprocess.run(["dpkg-deb", *words], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return build(tmp_path_factory.mktemp("debs"))


def test_the_same_sources_give_the_same_bytes(built: dict[str, Path], tmp_path: Path) -> None:
    """Built from another folder, too."""
    copy = tmp_path / "copy"
    ignored = shutil.ignore_patterns(".*", "__pycache__", "tests", "build", "dist", "*.egg-info")
    shutil.copytree(ROOT, copy, ignore=ignored)
    again = build(tmp_path / "debs", copy)
    assert set(again) == {"pykexec", "pykexec-region-dkms"}
    for name, path in built.items():
        assert path.read_bytes() == again[name].read_bytes(), name


def test_it_depends_on_what_debian_12_has(built: dict[str, Path]) -> None:
    assert dpkg_deb("--field", built["pykexec"], "Depends") == (
        "python3:any (>= 3.11), python3-click (>= 8.1.3), python3-construct (>= 2.10.68), "
        "python3-pyelftools (>= 0.29), python3-rich (>= 13.3.1)\n"
    )
    assert dpkg_deb("--field", built["pykexec-region-dkms"], "Depends").startswith("dkms")


def test_every_file_is_where_the_system_looks(built: dict[str, Path]) -> None:
    listed = {line.split()[5] for line in dpkg_deb("--contents", built["pykexec"]).splitlines()}
    python = {
        f"./usr/lib/python3/dist-packages/{path.relative_to(ROOT)}"
        for path in (ROOT / "pykexec").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert python <= listed
    units = {path.name for path in (ROOT / "systemd").glob("*.*") if path.suffix not in (
        ".rules", ".install", ".conf")}  # fmt: skip
    assert {f"./usr/lib/systemd/system/{name}" for name in units} <= listed
    assert {
        "./usr/bin/pykexec",
        "./usr/bin/pykexec-kexec",
        "./usr/bin/pykexec-vmcore-dmesg",
        "./usr/lib/udev/rules.d/98-pykexec.rules",
        "./etc/kernel/postinst.d/zz-pykexec",
        "./etc/kernel/postrm.d/zz-pykexec",
        "./usr/share/man/man8/pykexec.8.gz",
        "./usr/share/man/man5/pykexec.conf.5.gz",
        "./usr/share/pykexec/capture/make-initrd",
        "./usr/share/bash-completion/completions/pykexec",
        "./usr/share/zsh/vendor-completions/_pykexec",
        "./usr/share/fish/vendor_completions.d/pykexec.fish",
    } <= listed
    region = dpkg_deb("--contents", built["pykexec-region-dkms"])
    assert "./usr/src/pykexec-region-0.1/pykexec_region.c" in region
    assert "./usr/src/pykexec-region-0.1/dkms.conf" in region


def test_configuration_survives_an_upgrade(built: dict[str, Path], tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "--control", built["pykexec"], tmp_path / "c"], check=True)
    found = (tmp_path / "c/conffiles").read_text().split()
    hooks = [f"/etc/kernel/{folder}/zz-pykexec" for folder in ("postinst.d", "postrm.d")]
    assert found == [*hooks, "/etc/pykexec.conf"]


def test_the_version_is_the_packages(built: dict[str, Path]) -> None:
    assert dpkg_deb("--field", built["pykexec"], "Version") == f"{pykexec.__version__}-1\n"


def test_lintian_finds_no_error(built: dict[str, Path]) -> None:
    if shutil.which("lintian") is None:
        pytest.skip("lintian is not installed")
    command = ["lintian", "--allow-root", "--fail-on", "error", *map(str, built.values())]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
