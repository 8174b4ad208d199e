"""The single file: it runs with another Python and nothing else, and is always the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import pykexec
from pykexec.backends.setup.acting import Acting
from pykexec.backends.setup.step import Step
from pykexec.flows.setup.steps import decide
from pykexec.host.facts import read_machine
from pykexec.host.root import Folder
from pykexec.host.setup_facts import read_facts

from .builders import make_bzimage
from .setup_trees import DEBIAN, PACKAGE, RELEASE, Files, apply, snapshot
from .setup_trees import build as tree

ROOT = Path(__file__).resolve().parents[1]
DISTRIBUTIONS = (
    *("click", "construct", "mashumaro", "markdown-it-py", "mdurl", "pyelftools", "pygments"),
    *("rich", "typing-extensions"),
)

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_packages(tmp_path_factory.mktemp("packages"))


def install_packages(folder: Path) -> Path:
    """What pykexec needs, as it is installed for these tests: without network access."""
    for name in DISTRIBUTIONS:
        for file in metadata.files(name) or ():
            source = Path(str(file.locate()))
            if ".." not in file.parts and source.is_file():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, folder / file)
    return folder


def build(output: Path, packages: Path) -> Path:
    command = [sys.executable, str(ROOT / "scripts/build-pyz"), "--output", str(output)]
    done = subprocess.run([*command, "--packages", str(packages)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(scope="module")
def pyz(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("pyz") / "pykexec.pyz", packages)


def run(file: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Without anything that is installed: -S leaves site-packages out."""
    return subprocess.run(
        [sys.executable, "-S", "-E", "-P", str(file), *words],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        capture_output=True,
        text=True,
    )


def test_it_runs_alone(pyz: Path, tmp_path: Path) -> None:
    done = run(pyz, tmp_path, "--version")
    assert (done.stdout, done.stderr) == (f"pykexec {pykexec.__version__}\n", "")
    assert os.access(pyz, os.X_OK)
    assert pyz.read_bytes().startswith(b"#!/usr/bin/env python3\n")


def test_a_whole_rehearsal(pyz: Path, tmp_path: Path) -> None:
    """With the stub, which is package data."""
    (tmp_path / "vmlinuz").write_bytes(make_bzimage())
    words = ["rehearse", "vmlinuz", "--memory", "128M", "--crash-size", "32M", "--json"]
    done = run(pyz, tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["good"] is True


def test_a_guest_gets_the_files_of_the_archive(pyz: Path, tmp_path: Path) -> None:
    """For rehearse --engine qemu; tests/vm/test_rehearse.py boots one."""
    code = (
        "from pykexec.qemu.python import python_tree;"
        "tree, _ = python_tree(['pykexec.cli.program', 'pykexec.qemu.first']);"
        "print(*tree.entries)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-c", code],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(pyz)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for name in ("click/__init__.pyc", "pykexec/cli/program.pyc", "pykexec/qemu/first.pyc"):
        assert f"/{name} " in done.stdout


def test_every_error_is_explained(pyz: Path, tmp_path: Path) -> None:
    """Which imports every module."""
    done = run(pyz, tmp_path, "explain", "no-dump")
    assert done.returncode == 0, done.stderr


def bare(folder: Path, program: str | None = "") -> Folder:
    """A Debian system without a package of pykexec."""
    files = {path: text for path, text in DEBIAN.items() if path not in PACKAGE}
    del files["/etc/kernel/postinst.d/zz-pykexec"]
    hooks: Files = {"/etc/kernel/postinst.d/x": "", "/etc/kernel/postrm.d/x": ""}
    return tree(folder, files | hooks | {"/usr/local/bin/pykexec": program})


def test_it_can_set_a_machine_up(pyz: Path, tmp_path: Path) -> None:
    root = bare(tmp_path / "root")
    done = run(pyz, tmp_path, "setup", "--check", "--root", str(root.path))
    assert done.returncode == 3, done.stderr
    for line in (
        "create /usr/local/share/pykexec/capture/make-initrd",
        "create /usr/local/share/pykexec/capture/dracut/module-setup.sh",
        "create /etc/systemd/system/pykexec-crash.service",
        "create /etc/kernel/postrm.d/zz-pykexec",
        f"run sh /usr/local/share/pykexec/capture/make-initrd {RELEASE}",
    ):
        assert line in done.stdout, line
    done = run(pyz, tmp_path, "setup", "--check", "--root", str(bare(tmp_path / "no", None).path))
    assert done.returncode == 5
    assert "copy it to /usr/local/bin/pykexec" in done.stderr


def test_what_it_installs_is_taken_back(
    pyz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pykexec.host.setup_facts.PACKAGE", pyz)
    root = bare(tmp_path / "root")
    acting = Acting(root, lambda command: apply(root, command))
    before = snapshot(root)

    def steps() -> tuple[Step, ...]:
        machine = read_machine(root)
        return decide(machine, read_facts(root, machine), acting.journal.read()).steps

    acting.perform(steps())
    assert steps() == ()
    installed = root.path / "usr/local/share/pykexec/capture/make-initrd"
    assert installed.read_bytes() == (ROOT / "capture/make-initrd").read_bytes()
    assert os.access(installed, os.X_OK)
    assert acting.undo() == ()
    assert snapshot(root) == before


def test_by_another_name_it_is_another_command(pyz: Path, tmp_path: Path) -> None:
    link = tmp_path / "pykexec-kexec"
    link.symlink_to(pyz)
    assert run(link, tmp_path, "--version").stdout.startswith("kexec-tools ")


def test_it_is_always_the_same(pyz: Path, packages: Path, tmp_path: Path) -> None:
    again = build(tmp_path / "again.pyz", packages)
    assert again.read_bytes() == pyz.read_bytes()


def test_native_code_is_refused(packages: Path, tmp_path: Path) -> None:
    shutil.copytree(packages, tmp_path / "native")
    (tmp_path / "native/click/fast.so").write_bytes(b"\x7fELF")
    command = [sys.executable, str(ROOT / "scripts/build-pyz"), "--output", str(tmp_path / "x")]
    done = subprocess.run(
        [*command, "--packages", str(tmp_path / "native")], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "not pure Python: click/fast.so" in done.stderr
    assert not (tmp_path / "x").exists()
