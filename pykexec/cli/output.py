"""Prints a result: its JSON document, its page as plain text, or its page drawn on a terminal.

Results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from pykexec.cli.out import plain
from pykexec.cli.streams import STDOUT
from pykexec.errors import AnswerLost, printable
from pykexec.frozen import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pykexec.cli.report.answer import Answer


@dataclass(frozen=True)
class Output:
    """The kind of output that the user wants."""

    as_json: bool = False
    verbose: int = 0

    def show(self, answer: Answer, done: str = "") -> None:
        """Print the complete result of a command on stdout. `done` is what has already happened,
        for the error if printing fails. Raises AnswerLost, BrokenPipeError."""
        try:
            self.write(answer)
        except BrokenPipeError:
            raise
        except OSError as error:
            if error.filename != STDOUT:
                raise
            so_far = f"; {done} nevertheless" if done else ""
            reason = (error.strerror or str(error)).lower()
            raise AnswerLost(f"{STDOUT}: {reason}{so_far}") from error

    def write(self, answer: Answer) -> None:
        """Modules for JSON and tables are imported when they are needed."""
        if self.as_json:
            from pykexec.documents.codec import encode

            click.echo(encode(answer.document()), nl=False)
            return
        page = answer.page(self.verbose)
        if sys.stdout.isatty():
            from pykexec.cli.out.render import draw

            draw(page)
        else:
            for line in plain.text(page):
                click.echo(printable(line))
        sys.stdout.flush()

    def warn(self, warnings: Iterable[str]) -> None:
        """Warn about possible later problems."""
        for text in warnings:
            click.echo(f"pykexec: warning: {printable(text)}", err=True)

    def note(self, text: str) -> None:
        """Print what was assumed or done in addition."""
        click.echo(f"pykexec: note: {printable(text)}", err=True)
