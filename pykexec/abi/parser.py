"""Parsers of records as they are written into a module: struct's format and the names of the
fields. They need no import but that of struct."""

from __future__ import annotations

from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Parsed:
    """The fields of a record, by name."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


class Parser:
    """`format` is that of struct; fields of a nested record are called record_field."""

    def __init__(self, format: str, names: tuple[str, ...]) -> None:
        self.struct, self.names = Struct(format), names

    def sizeof(self) -> int:
        return self.struct.size

    def parse(self, data: bytes) -> Parsed:
        """The record at the start of `data`, which is long enough."""
        found = Parsed()
        vars(found).update(zip(self.names, self.struct.unpack_from(data), strict=True))
        return found
