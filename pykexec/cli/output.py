"""Where a value goes: its JSON document, its plain text, or its drawing on a terminal.

Data goes to stdout, everything else to stderr. Each kind of value has one function
of its name in documents.py, plain.py and render.py, or in their twins *_files.py,
*_findings.py and *_diff.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

import click

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
    "doctor",
    "explanation",
    "diff",
]


ENDINGS = {
    **dict.fromkeys(("image", "initrd", "zero_page", "core_headers"), "_files"),
    **dict.fromkeys(("rehearsal", "machine", "captured"), "_findings"),
    **dict.fromkeys(("vmcore_info", "vmcore_verdict", "doctor", "explanation"), "_findings"),
    "diff": "_diff",
}
"""Of the modules that have the functions of a kind; the others are in the modules without."""


def twin(form: str, kind: Kind) -> Any:
    """The function for a kind of value: form is documents, plain or render."""
    return getattr(import_module(f"pykexec.cli.{form}{ENDINGS.get(kind, '')}"), kind)


def printable(text: str) -> str:
    """Text that a terminal does not obey: control characters as escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


@dataclass(frozen=True)
class Output:
    """How the user wants it."""

    as_json: bool = False
    verbose: int = 0

    def show(self, kind: Kind, value: object) -> None:
        """The whole answer of a command, on stdout."""
        if self.as_json:
            documents = import_module("pykexec.cli.documents")
            click.echo(documents.encode(twin("documents", kind)(value)), nl=False)
        elif sys.stdout.isatty():
            render = import_module("pykexec.cli.render")
            render.draw(twin("render", kind)(value, self.verbose))
        else:
            for line in twin("plain", kind)(value, self.verbose):
                click.echo(printable(line))

    def warn(self, warnings: Iterable[str]) -> None:
        """What may go wrong later."""
        for text in warnings:
            click.echo(f"pykexec: warning: {printable(text)}", err=True)

    def note(self, text: str) -> None:
        """What was assumed or done on the way."""
        click.echo(f"pykexec: note: {printable(text)}", err=True)
