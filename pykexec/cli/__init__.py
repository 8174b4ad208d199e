"""The command line. Importing it, `--help` and completion import click alone:
everything else is imported inside the command that needs it."""

from __future__ import annotations

import os
import sys

INTERRUPTED = 130
"""As a shell shows a process that SIGINT ended."""


def main() -> None:
    """The program `pykexec`: ends the process with the documented exit status."""
    try:
        from pykexec.cli.program import program

        open_closed_streams()
        program.main(prog_name="pykexec")
    except KeyboardInterrupt:
        sys.exit(interrupted("pykexec", INTERRUPTED))


def interrupted(name: str, status: int) -> int:
    """Says it, also where nothing but this is imported yet; gives the exit status."""
    print(f"{name}: interrupted", file=sys.stderr)
    return status


def open_closed_streams() -> None:
    """What a caller has closed (`>&-`) is /dev/null: Python has None there, and the next file that
    is opened would have its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
