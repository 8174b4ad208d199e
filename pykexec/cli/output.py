"""Where an answer goes: its JSON document, its page as plain text, or that drawn on a terminal.

Answers go to stdout, everything else to stderr.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from pykexec.cli.streams import STDOUT
from pykexec.errors import AnswerLost, printable
from pykexec.frozen import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pykexec.cli.report.answer import Answer


@dataclass(frozen=True)
class Output:
    """How the user wants it."""

    as_json: bool = False
    verbose: int = 0

    def show(self, answer: Answer, done: str = "") -> None:
        """Print the whole answer of a command on stdout. `done` is what has happened already, for
        who cannot read the answer. Raises AnswerLost, BrokenPipeError."""
        try:
            self.write(answer)
        except BrokenPipeError:
            raise
        except OSError as error:
            if error.filename != STDOUT:
                raise
            so_far = f"; {done} all the same" if done else ""
            reason = (error.strerror or str(error)).lower()
            raise AnswerLost(f"{STDOUT}: {reason}{so_far}") from error

    def write(self, answer: Answer) -> None:
        """The modules that write JSON, plain text or tables are imported when they are needed."""
        if self.as_json:
            from pykexec.documents.codec import encode

            click.echo(encode(answer.document()), nl=False)
            return
        page = answer.page(self.verbose)
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
