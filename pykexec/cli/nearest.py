"""Suggestions for a mistyped word. Imported only when needed: difflib takes a while."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The most similar known word, as the end of a message; "" if none is similar. The case of
    letters does not count."""
    words = {name.lower(): name for name in known}
    found = get_close_matches(word.lower(), words, 1)
    return f"; did you mean {words[found[0]]!r}?" if found else ""
