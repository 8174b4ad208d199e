"""What `vmcore dmesg` does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.cli.report.log import print_document, print_lines
from pykexec.dump.reader import open_dump

if TYPE_CHECKING:
    from pathlib import Path


def dmesg(file: Path, noescape: bool, as_json: bool) -> int:
    """Print the log; returns the exit status."""
    dump = open_dump(str(file))
    if as_json:
        return print_document(dump)
    print_lines(dump, noescape)
    return 0
