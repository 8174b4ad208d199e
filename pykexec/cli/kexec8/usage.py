"""--help, from the table of options."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pykexec import __version__
from pykexec.cli.kexec8.options import GENERAL, X86, Handling, Option

SPEAKS = "2.0.32"
"""The kexec-tools whose options these are."""
VERSION = f"kexec-tools {SPEAKS} (command line implemented by pykexec {__version__})"
COLUMN = 31


def usage() -> Iterator[str]:
    yield VERSION
    yield "Usage: kexec [OPTION]... [kernel]"
    yield "Load a new kernel from the running one; by default also run shutdown -r now to start it"
    yield ""
    yield from lines(GENERAL)
    yield ""
    yield "Architecture options:"
    yield from lines(X86)


def lines(options: Iterable[Option]) -> Iterator[str]:
    for option in options:
        short = f"-{option.short}," if option.short else "   "
        argument = f"={option.argument}" if option.argument else ""
        left = f" {short} --{option.long}{argument}"
        ending = {Handling.NOTED: " (no effect)", Handling.REFUSED: " (refused)"}.get(
            option.handling, ""
        )
        yield f"{left:{COLUMN}} {option.help}{ending}"
