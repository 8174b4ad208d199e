"""Reads arbitrary JSON: each value is requested by key, type and bounds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import Enum
from typing import TypeVar

from pykexec.abi.x86.page import PAGE_SIZE
from pykexec.errors import KexecError, UsageError
from pykexec.memory.ranges import PhysRange, RangeSet

ADDRESSES = 1 << 64
MAX_NUMBERS = 1 << 19
"""Limit for a list of frame runs: no machine made by pykexec has as many."""
E = TypeVar("E", bound=Enum)


class BadMachineFile(KexecError):
    """machine.json does not have the contents that pykexec writes."""

    code = "bad-machine"


class Fields:
    """One JSON object. `path` is its location, for messages."""

    def __init__(self, value: object, path: str = "machine.json") -> None:
        if not isinstance(value, dict):
            raise BadMachineFile(f"{path}: expected an object, found {shown(value)}")
        self.value: dict[str, object] = value
        self.path = path

    def __contains__(self, key: str) -> bool:
        """Whether the key has a value."""
        return self.value.get(key) is not None

    def wrong(self, key: str, expected: str) -> BadMachineFile:
        found = shown(self.value[key]) if key in self.value else "nothing"
        return BadMachineFile(f"{self.path}: {key}: expected {expected}, found {found}")

    def integer(self, key: str, low: int = 0, high: int = ADDRESSES) -> int:
        """low <= value <= high."""
        value = self.value.get(key)
        if type(value) is not int or not low <= value <= high:
            raise self.wrong(key, f"a number from {low:#x} to {high:#x}")
        return value

    def text(self, key: str, longest: int = 4096) -> str:
        value = self.value.get(key)
        if not isinstance(value, str) or len(value) > longest:
            raise self.wrong(key, f"a text of at most {longest} characters")
        return value

    def boolean(self, key: str) -> bool:
        value = self.value.get(key)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def choice(self, key: str, kind: type[E]) -> E:
        """One of the values of an enum."""
        value = self.value.get(key)
        for item in kind:
            if item.value == value:
                return item
        raise self.wrong(key, _names_of(kind))

    def inner(self, key: str) -> Fields:
        if key not in self.value:
            raise self.wrong(key, "an object")
        return Fields(self.value[key], f"{self.path}: {key}")

    def array(self, key: str) -> list[object]:
        value = self.value.get(key)
        if not isinstance(value, list):
            raise self.wrong(key, "a list")
        return value

    def spans(self, key: str) -> RangeSet:
        """Whole frames, as written by `frame_runs`."""
        numbers = self.array(key)
        if len(numbers) % 2 or len(numbers) > MAX_NUMBERS:
            raise self.wrong(key, f"at most {MAX_NUMBERS} pairs of gap and length")
        found: list[PhysRange] = []
        at = 0
        for number, value in enumerate(numbers):
            least = 0 if number < 1 else 1
            if type(value) is not int or not least <= value <= ADDRESSES // PAGE_SIZE - at:
                raise self.wrong(key, "ascending runs of frames")
            if number % 2:
                found.append(PhysRange.sized(at * PAGE_SIZE, value * PAGE_SIZE))
            at += value
        return RangeSet(tuple(found))


def _names_of(kind: type[Enum]) -> str:
    """The values of an enum, for a message."""
    return " or ".join(repr(item.value) for item in kind)


def choose(kind: type[E], value: E | str) -> E:
    """A member by itself or by its value; raises UsageError."""
    for item in kind:
        if value is item or value == item.value:
            return item
    raise UsageError(f"{value!r} is not one of {_names_of(kind)}")


def frame_runs(spans: RangeSet) -> list[int]:
    """Gap, length, gap, length ... in frames: a tenth of the size of addresses."""
    numbers: list[int] = []
    at = 0
    for span in spans:
        numbers += ((span.start - at) // PAGE_SIZE, span.size // PAGE_SIZE)
        at = span.end
    return numbers


def shown(value: object) -> str:
    """A value for a message, shortened."""
    if isinstance(value, (list, dict)):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    if isinstance(value, int) and abs(value) >= ADDRESSES:
        return "a number of more than 64 bits"
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."


def parse_json(raw: bytes, path: str) -> object:
    """Raises BadMachineFile for invalid JSON, or nesting that is too deep."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else "no JSON"
        raise BadMachineFile(f"{path}: {reason}") from None


def compact_json(value: dict[str, object] | Sequence[object]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
