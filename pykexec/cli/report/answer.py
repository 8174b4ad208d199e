"""What every answer of a command can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pykexec.cli.out.blocks import Block
    from pykexec.documents.base import Document


class Answer(Protocol):
    """A value that a command prints."""

    def document(self) -> Document:
        """For --json. It has no pointers, no time stamps, and no paths but those that the user
        gave: two runs give the same bytes."""

    def page(self, verbose: int) -> list[Block]:
        """For a reader; `verbose` is the number of -v."""
