"""Records of fixed size: declared once, with the names and types of their fields, and read and
built by name.

The declarations look like those of construct, and a test compares every record with it. This is for
what a load reads or builds, or what the log of a dump takes: importing construct takes as long as
half of a plan, because it brings the debugger. Formats that neither needs (`abi/kdump.py`) are
declared with construct.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any


class Record(dict[str, Any]):
    """The fields of a parsed record, as attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self:
            raise AttributeError(name)
        self[name] = value


class Type:
    """One field, or with `count` an array: `code` is that of module struct, for values of `size`
    bytes in the byte order `order` ("" for bytes)."""

    def __init__(self, code: str, size: int, order: str = "", count: int | None = None) -> None:
        self.code, self.size, self.order, self.count = code, size, order, count
        self.format = code if count is None else f"{count}{code}"

    def __rtruediv__(self, name: str) -> Field:
        return Field(name, self)

    def __getitem__(self, count: int) -> Type:
        return Type(self.code, self.size * count, self.order, count)

    def decode(self, values: tuple[Any, ...]) -> Any:
        """The field from the values of struct. Raises ValueError."""
        return values[0] if self.count is None else list(values)

    def encode(self, value: Any) -> tuple[Any, ...]:
        """The values for struct. Raises ValueError."""
        if self.count is None:
            return (value,)
        if len(value) != self.count:
            raise ValueError(f"{len(value)} values instead of {self.count}")
        return tuple(value)


class Bytes(Type):
    """Exactly `size` bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(f"{size}s", size)

    def encode(self, value: Any) -> tuple[Any, ...]:
        if len(value) != self.size:
            raise ValueError(f"{len(value)} bytes instead of {self.size}")
        return (bytes(value),)


class Const(Type):
    """A field that always has this value: bytes, or a number of the given type."""

    def __init__(self, value: bytes | int, of: Type | None = None) -> None:
        kind = of or Bytes(len(bytes(value)))
        super().__init__(kind.code, kind.size, kind.order)
        self.value = value

    def decode(self, values: tuple[Any, ...]) -> Any:
        if values[0] != self.value:
            raise ValueError(f"{values[0]!r} instead of {self.value!r}")
        return values[0]

    def encode(self, value: Any) -> tuple[Any, ...]:
        return (self.value,)


class Field:
    """A named type."""

    def __init__(self, name: str, kind: Type) -> None:
        self.name, self.kind = name, kind


Int8ul, Int16ul = Type("B", 1, "<"), Type("H", 2, "<")
Int32ul, Int64ul = Type("I", 4, "<"), Type("Q", 8, "<")
Int8ub, Int32ub = Type("B", 1, ">"), Type("I", 4, ">")


class Struct:
    """Fields one after the other, without padding, all in one byte order."""

    def __init__(self, *fields: Field) -> None:
        self.fields = fields
        orders = {item.kind.order for item in fields} - {""}
        (order,) = orders or {"<"}
        self.format = struct.Struct(order + "".join(item.kind.format for item in fields))

    def sizeof(self) -> int:
        return self.format.size

    def parse(self, data: bytes | memoryview, *, any_constant: bool = False) -> Record:
        """The record at the start of `data`. Raises ValueError for another value of a constant,
        unless the caller checks it (`any_constant`), and struct.error for less than `sizeof()`
        bytes."""
        values = self.format.unpack_from(data)
        found, at = Record(), 0
        for item in self.fields:
            end = at + (1 if item.kind.count is None else item.kind.count)
            unchecked = any_constant and isinstance(item.kind, Const)
            found[item.name] = values[at] if unchecked else item.kind.decode(values[at:end])
            at = end
        return found

    def build(self, values: Mapping[str, Any]) -> bytes:
        """The bytes of a record; a constant needs no value. Raises KeyError for a missing value,
        ValueError and struct.error for one that does not fit."""
        given: list[Any] = []
        for item in self.fields:
            value = None if isinstance(item.kind, Const) else values[item.name]
            given += item.kind.encode(value)
        return self.format.pack(*given)
