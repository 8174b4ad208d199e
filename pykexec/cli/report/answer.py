"""The interface of a command's result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pykexec.cli.out.blocks import Block
    from pykexec.documents.base import Document


class Answer(Protocol):
    """A value that a command prints."""

    def document(self) -> Document:
        """For --json. It contains no pointers, no timestamps, and only paths given by the user: two
        runs give the same bytes."""

    def page(self, verbose: int) -> list[Block]:
        """For humans; `verbose` is the number of -v."""
