"""Common parts of all documents: the schema, and numbers and strings with constraints.

A document is a frozen dataclass. Its fields are the keys of the JSON, in order; a field that equals
its default is omitted. The strings below fields and classes are the descriptions in
pykexec/schemas, which are generated from these classes (tests/test_schemas.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from reprlib import repr as short
from typing import Annotated, Any, ClassVar, Literal, Protocol

from pykexec.memory.ranges import PhysRange


class Document(Protocol):
    """A complete document, with one of the schemas in pykexec/schemas."""

    schema: ClassVar[str]
    """Such as pykexec.plan/1; the first key of the JSON."""
    __dataclass_fields__: ClassVar[dict[str, Any]]


@dataclass(frozen=True)
class Text:
    """A JSON string that matches `pattern`, which is anchored at both ends."""

    pattern: str
    description: str = ""

    def check(self, found: object) -> str:
        """Raises TypeError, ValueError."""
        if not re.fullmatch(self.pattern, text(found)):
            raise ValueError(f"expected {self.pattern}, found {short(found)}")
        return text(found)


@dataclass(frozen=True)
class Choice:
    """A JSON string that is one of `values`, but any string in Python."""

    values: tuple[str, ...]

    def check(self, found: object) -> str:
        """Raises TypeError, ValueError."""
        if text(found) not in self.values:
            raise ValueError(f"expected one of {self.values}, found {short(found)}")
        return text(found)


@dataclass(frozen=True)
class Number:
    """A JSON integer of at least `least` and at most `most`."""

    least: int
    most: int | None = None

    def check(self, found: object) -> int:
        """Raises TypeError, ValueError."""
        if whole(found) < self.least or (self.most is not None and whole(found) > self.most):
            raise ValueError(f"expected at least {self.least}, found {short(found)}")
        return whole(found)


@dataclass(frozen=True)
class Length:
    """A JSON array of at least `least` items."""

    least: int


HEX = Text("^0x(0|[1-9a-f][0-9a-f]{0,16})$", "an address, or a number of 64 bits")
Hex = Annotated[int, HEX]
"""An integer that is a hexadecimal string in JSON."""
SHA256 = Text("^[0-9a-f]{64}$")
Sha256 = Annotated[str, SHA256]
COUNT = Number(0)
Count = Annotated[int, COUNT]
BACKEND = Choice(("simulated", "kernel"))
BackendName = Annotated[str, BACKEND]
SlotName = Literal["normal", "crash"]
ModeName = Literal["flag", "kernel-swap", "stub-swap", "in-place", "lent"]
StateName = Literal["loaded", "not loaded", "unknown"]
"""Unknown is not loaded."""


@dataclass(frozen=True, slots=True)
class Span:
    """half-open: end is the first address after it"""

    start: Hex
    end: Hex

    @property
    def range(self) -> PhysRange:
        """Raises BadRange."""
        return PhysRange(self.start, self.end)


def span(item: PhysRange) -> Span:
    return Span(item.start, item.end)


def spans(items: Iterable[PhysRange]) -> tuple[Span, ...]:
    return tuple(map(span, items))


@dataclass(frozen=True, slots=True)
class CheckResult:
    """the result of a check"""

    rule: str
    ok: bool | None
    """null: a fact is unknown"""
    detail: str


def hex_number(found: object) -> int:
    """Raises TypeError, ValueError."""
    return int(HEX.check(found), 16)


def whole(found: object) -> int:
    """An integer, not a boolean or a fraction. Raises TypeError."""
    if type(found) is not int:
        raise TypeError(f"expected a whole number, found {short(found)}")
    return found


def text(found: object) -> str:
    """Raises TypeError."""
    if not isinstance(found, str):
        raise TypeError(f"expected text, found {short(found)}")
    return found


def truth(found: object) -> bool:
    """Raises TypeError."""
    if not isinstance(found, bool):
        raise TypeError(f"expected true or false, found {short(found)}")
    return found
