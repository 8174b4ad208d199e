"""A controller: ansible-core and ansible-lint from PyPI in an environment of their own, since they
need more packages than all of pykexec, and the collection where ansible looks for it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.vm.debian import cache_folder, locked, sh

ROOT = Path(__file__).resolve().parents[2]
COLLECTION = ROOT / "ansible"
CONSTRAINTS = ROOT / "scripts/constraints-ansible.txt"


def environment() -> Path:
    """The folder of the environment, made once; it cannot be moved, because its programs contain
    its path. Raises Unavailable."""
    wanted = hashlib.sha256(CONSTRAINTS.read_bytes() + sys.version.encode()).hexdigest()[:16]
    target = cache_folder() / f"ansible-{wanted}"
    complete = target / "complete"
    with locked("ansible"):
        if not complete.exists():
            shutil.rmtree(target, ignore_errors=True)
            sh(sys.executable, "-m", "venv", target, why="no environment for ansible")
            pip = (target / "bin/python", "-m", "pip", "install", "-qq", "-c", CONSTRAINTS)
            sh(*pip, "ansible-core", "ansible-lint", why="no ansible from PyPI")
            complete.touch()
    return target


@dataclass(frozen=True)
class Result:
    status: int
    text: str

    def recap(self, host: str) -> dict[str, int]:
        """The counts of PLAY RECAP for a host, of the last play."""
        line = re.findall(rf"^{re.escape(host)}\s*:(.*)$", self.text, re.MULTILINE)[-1]
        return {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", line)}


@dataclass(frozen=True)
class Controller:
    """Runs playbooks of the collection in `folder`."""

    python: Path
    folder: Path

    def run(self, program: str, *words: str | Path, **variables: str) -> Result:
        bin_folder = self.python / "bin"
        changed = {
            "PATH": f"{bin_folder}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PWD": str(self.folder),
            "HOME": str(self.folder),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": str(self.folder / "collections"),
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "ANSIBLE_NOCOLOR": "1",
            "NO_COLOR": "1",
        }
        done = subprocess.run(
            [bin_folder / program, *words],
            cwd=self.folder,
            env={**os.environ, **changed, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return Result(done.returncode, done.stdout + done.stderr)

    def playbook(self, name: str, *words: str, **variables: str) -> Result:
        return self.run("ansible-playbook", f"pykexec.pykexec.{name}", *words, **variables)


def controller(folder: Path) -> Controller:
    """A controller with the collection installed. Raises Unavailable."""
    place = folder / "collections/ansible_collections/pykexec/pykexec"
    shutil.copytree(COLLECTION, place)
    return Controller(environment(), folder)
