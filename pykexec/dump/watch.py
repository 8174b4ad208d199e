"""How long work is watched: it calls a function with what it is reading and the finished part."""

from __future__ import annotations

from collections.abc import Callable

Watch = Callable[[str, float], None]
"""Takes a noun, such as "page descriptors", and the finished part of that work: 0 to 1."""


def unwatched(_what: str, _part: float) -> None:
    """Nobody watches."""
