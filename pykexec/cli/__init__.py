"""The command line. Importing it, `--help` and completion import click alone:
everything else is imported inside the command that needs it."""

from __future__ import annotations


def main() -> None:
    """The program `pykexec`: ends the process with the documented exit status."""
    from pykexec.cli.program import program

    program.main(prog_name="pykexec")
