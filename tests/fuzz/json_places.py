"""The places of the values in a JSON document, and possible replacements."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

GONE = object()
VALUES: tuple[object, ...] = (
    GONE, None, True, -1, 0, 1, 7, 1 << 12, 1 << 20, 1 << 52, 1 << 64, 10**30, 0.5, float("inf"),
    "", "0", "-0x1", "0x1000", "0x10000000000000000", "x" * 5000, "\ud800", "\0", [], [[]], {},
    {"": 0},
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """The place of one value: the list or object, and the key."""

    holder: Any
    key: Any

    def replace(self, value: object) -> None:
        """Replace the value, or remove it."""
        if value is GONE:
            if isinstance(self.holder, dict):
                self.holder.pop(self.key, None)
            else:
                del self.holder[self.key : self.key + 1]
        elif isinstance(self.holder, dict) or self.key < len(self.holder):
            self.holder[self.key] = deepcopy(value)


def places(document: object) -> list[Place]:
    """All places, and one that does not exist yet."""
    if not isinstance(document, dict | list):
        return []
    items = document.items() if isinstance(document, dict) else enumerate(document)
    found = [Place(document, key) for key, _ in items]
    for place in list(found):
        found += places(place.holder[place.key])
    return found or [Place({}, "")]
