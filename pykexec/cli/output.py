"""Where a value goes: its JSON document, its plain text, or its drawing on a terminal.

Data goes to stdout, everything else to stderr. Each kind of value has one function
of its name in documents.py, plain.py and render.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Literal

import click

Kind = Literal[
    "load",
    "file_load",
    "unload",
    "status",
    "started",
    "image",
    "rehearsal",
    "machine",
    "captured",
    "vmcore_info",
    "vmcore_verdict",
    "doctor",
    "explanation",
]


@dataclass(frozen=True)
class Output:
    """How the user wants it."""

    as_json: bool = False
    verbose: int = 0

    def show(self, kind: Kind, value: object) -> None:
        """The whole answer of a command, on stdout."""
        if self.as_json:
            documents = import_module("pykexec.cli.documents")
            click.echo(documents.encode(getattr(documents, kind)(value)), nl=False)
        elif sys.stdout.isatty():
            render = import_module("pykexec.cli.render")
            render.draw(getattr(render, kind)(value, self.verbose))
        else:
            plain = import_module("pykexec.cli.plain")
            for line in getattr(plain, kind)(value, self.verbose):
                click.echo(line)

    def warn(self, warnings: Iterable[str]) -> None:
        """What may go wrong later."""
        for text in warnings:
            click.echo(f"pykexec: warning: {text}", err=True)

    def note(self, text: str) -> None:
        """What was assumed or done on the way."""
        click.echo(f"pykexec: note: {text}", err=True)
