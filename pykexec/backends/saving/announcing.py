"""Notifies users of a machine about its last crash: wall(1), and the administrator's command."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from pykexec.backends.saving.limited import StepFailed, how_ended, limited

SECONDS = 120
"""Time limit for each command."""


def wall(text: str) -> None:
    """Write to all terminals, if wall(1) is installed. Raises StepFailed."""
    program = shutil.which("wall")
    if program:
        limited(run([program, text]), SECONDS)


def call_hook(words: Iterable[str], document: str) -> None:
    """Run the command with the document on its standard input. Raises StepFailed."""
    limited(run(list(words), document), SECONDS)


def run(words: list[str], text: str = "") -> Callable[[], None]:
    def work() -> None:
        if status := subprocess.run(words, input=text.encode(), check=False).returncode:
            raise StepFailed(f"{words[0]} {how_ended(status)}")

    return work


def remember(path: str, names: Iterable[str]) -> None:
    """Write one name on each line, atomically. Raises OSError."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(f"{path}.new").write_text("".join(f"{name}\n" for name in names))
    os.replace(f"{path}.new", path)


def forget(path: str) -> None:
    """Remove the file, if it exists. Raises OSError."""
    Path(path).unlink(missing_ok=True)
