"""Where a value goes: its JSON document, its page as plain text, or that drawn on a terminal.

Data goes to stdout, everything else to stderr. Each kind of value has one function of its
name in documents.py and one in pages.py, or in their twins *_files.py and *_findings.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

import click

from pykexec.cli.streams import STDOUT
from pykexec.errors import printable

Kind = Literal[
    "load",
    "file_load",
    "unload",
    "status",
    "started",
    "image",
    "initrd",
    "zero_page",
    "core_headers",
    "rehearsal",
    "machine",
    "captured",
    "vmcore_info",
    "vmcore_verdict",
    "crash_report",
    "dump_info",
    "dump_verdict",
    "doctor",
    "explanation",
    "diff",
    "region",
    "region_build",
]


ENDINGS = {
    **dict.fromkeys(("image", "initrd", "zero_page", "core_headers"), "_files"),
    **dict.fromkeys(("region", "region_build"), "_region"),
    **dict.fromkeys(("rehearsal", "machine", "captured", "diff"), "_findings"),
    "crash_report": "_crash",
    **dict.fromkeys(("dump_info", "dump_verdict"), "_dump"),
    **dict.fromkeys(("vmcore_info", "vmcore_verdict", "doctor", "explanation"), "_findings"),
}
"""Of the modules that have the functions of a kind; the others are in the modules without."""


def twin(form: Literal["documents", "pages"], kind: Kind) -> Any:
    """The function for a kind of value."""
    return getattr(import_module(f"pykexec.cli.{form}{ENDINGS.get(kind, '')}"), kind)


@dataclass(frozen=True)
class Output:
    """How the user wants it."""

    as_json: bool = False
    verbose: int = 0

    def show(self, kind: Kind, value: object, done: str = "") -> None:
        """The whole answer of a command, on stdout. `done` is what has happened already, for who
        cannot read the answer. Raises AnswerLost, BrokenPipeError."""
        try:
            self.write(kind, value)
        except BrokenPipeError:
            raise
        except OSError as error:
            if error.filename != STDOUT:
                raise
            from pykexec.cli.program import AnswerLost

            so_far = f"; {done} all the same" if done else ""
            reason = (error.strerror or str(error)).lower()
            raise AnswerLost(f"{STDOUT}: {reason}{so_far}") from error

    def write(self, kind: Kind, value: object) -> None:
        if self.as_json:
            from pykexec.documents.codec import encode

            click.echo(encode(twin("documents", kind)(value)), nl=False)
            return
        page = twin("pages", kind)(value, self.verbose)
        if sys.stdout.isatty():
            from pykexec.cli.out.render import draw

            draw(page)
        else:
            from pykexec.cli.out.plain import text

            for line in text(page):
                click.echo(printable(line))
        sys.stdout.flush()

    def warn(self, warnings: Iterable[str]) -> None:
        """What may go wrong later."""
        for text in warnings:
            click.echo(f"pykexec: warning: {printable(text)}", err=True)

    def note(self, text: str) -> None:
        """What was assumed or done on the way."""
        click.echo(f"pykexec: note: {printable(text)}", err=True)
