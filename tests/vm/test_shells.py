"""Completion in the zsh and fish of Debian 12. It takes their packages, but no guest; bash is in
tests/cli/test_completion.py."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .debian import package_tree
from .supplies import TOOLS_SUITE

ROOT = Path(__file__).resolve().parents[2]
CASES = [
    ("pykexec reh", "rehearse"),
    ("pykexec load --crash-by", "--crash-by-normal"),
    ("pykexec setup --und", "--undo"),
    ("pykexec load k --mode st", "stub-swap"),
]
"""Each has a single answer."""
SECONDS = 60


def _goes_with(package: str) -> bool:
    return package.endswith("-common") or package.startswith(("libpcre", "libtinfo", "libcap"))


def tree(shell: str) -> Path:
    return package_tree(TOOLS_SUITE, shell, _goes_with)


def environment(folder: Path, root: Path) -> dict[str, str]:
    """pykexec on the PATH, and the shell's own libraries."""
    shim = folder / "pykexec"
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pykexec "$@"\n')
    shim.chmod(0o755)
    libraries = sorted({str(path.parent) for path in root.rglob("*.so*")})
    return {
        "PATH": f"{folder}:/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
        "LD_LIBRARY_PATH": ":".join(libraries),
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
    }


@pytest.mark.parametrize(("line", "expected"), CASES)
def test_in_fish(tmp_path: Path, line: str, expected: str) -> None:
    """With a description of a command."""
    root = tree("fish")
    code = f'source "{ROOT}/completions/fish/pykexec.fish"; complete -C "{line}"'
    done = subprocess.run(
        [root / "usr/bin/fish", "--no-config", "-c", code],
        env=environment(tmp_path, root),
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert [row.split("\t")[0] for row in done.stdout.splitlines()] == [expected], done.stderr
    if expected == "rehearse":
        assert "\tTry a crash dump" in done.stdout


@pytest.mark.parametrize(("line", "expected"), CASES)
def test_in_zsh(tmp_path: Path, line: str, expected: str) -> None:
    """On a terminal, by the key that completes."""
    root = tree("zsh")
    (modules,) = root.glob("usr/lib/*/zsh/*")
    functions = " ".join(
        str(path) for path in [root / "usr/share/zsh/functions", *root.glob("usr/share/zsh/**/*/")]
    )
    setup = (
        f"module_path=({modules})\nfpath=({functions} {ROOT}/completions/zsh)\n"
        "autoload -Uz compinit\ncompinit -u -D\nPS1='ready> '\n"
    )
    (tmp_path / ".zshrc").write_text(setup)
    ours, theirs = pty.openpty()
    shell = subprocess.Popen(
        [root / "bin/zsh", "-d", "-i"],
        env=environment(tmp_path, root) | {"ZDOTDIR": str(tmp_path)},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        seen = until(ours, "ready> ")
        os.write(ours, f"{line}\t".encode())
        seen = until(ours, expected)
        assert line.rpartition(" ")[0] in seen
    finally:
        shell.kill()
        shell.wait()
        os.close(ours)


def until(fd: int, text: str) -> str:
    """What the terminal shows, up to this text."""
    seen, end = "", time.monotonic() + SECONDS
    while text not in seen:
        assert time.monotonic() < end, seen
        if select.select([fd], [], [], 1)[0]:
            seen += os.read(fd, 1 << 16).decode(errors="replace")
    return seen
