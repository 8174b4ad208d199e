"""What `load` does first: it checks the options, and starts reading the initrd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pykexec.cli import run as later
from pykexec.cli.run.load_options import LoadOptions

if TYPE_CHECKING:
    from pathlib import Path


def run(kernel: Path, options: dict[str, Any]) -> None:
    """The modules that do the work are imported after the files were opened."""
    given = LoadOptions(**options)
    given.check()
    given.open_files()
    later.load_steps.run(kernel, given)
