"""Builds BTF from arguments (Documentation/bpf/btf.rst)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

INT, PTR, ARRAY, STRUCT, UNION, ENUM, TYPEDEF, CONST, ENUM64 = 1, 2, 3, 4, 5, 6, 8, 10, 19


@dataclass
class Btf:
    """Each method returns the number of the type that it adds."""

    texts: bytearray = field(default_factory=lambda: bytearray(b"\0"))
    types: list[bytes] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)

    def text(self, name: str) -> int:
        if name and name not in self.places:
            self.places[name] = len(self.texts)
            self.texts += name.encode() + b"\0"
        return self.places.get(name, 0)

    def add(self, name: str, kind: int, count: int, size: int, tail: bytes, flag: int = 0) -> int:
        info = flag << 31 | kind << 24 | count
        self.types.append(struct.pack("<III", self.text(name), info, size) + tail)
        return len(self.types)

    def integer(self, name: str, size: int) -> int:
        return self.add(name, INT, 0, size, struct.pack("<I", size * 8))

    def pointer(self) -> int:
        return self.add("", PTR, 0, 0, b"")

    def array(self, element: int, count: int) -> int:
        return self.add("", ARRAY, 0, 0, struct.pack("<III", element, element, count))

    def alias(self, name: str, target: int, kind: int = TYPEDEF) -> int:
        return self.add(name, kind, 0, target, b"")

    def struct(
        self, name: str, size: int, members: Iterable[tuple[str, int, int]], kind: int = STRUCT
    ) -> int:
        """Members are (name, offset in bytes, type)."""
        rows = list(members)
        tail = b"".join(struct.pack("<III", self.text(n), t, 8 * at) for n, at, t in rows)
        return self.add(name, kind, len(rows), size, tail)

    def fields(self, name: str, size: int, members: Iterable[tuple[str, int, int, int]]) -> int:
        """A structure with bit fields: (name, first bit, bits, type); 0 bits for a normal
        member."""
        rows = list(members)
        tail = b"".join(
            struct.pack("<III", self.text(n), t, bits << 24 | at) for n, at, bits, t in rows
        )
        return self.add(name, STRUCT, len(rows), size, tail, flag=1)

    def enum(self, name: str, values: Mapping[str, int], kind: int = ENUM) -> int:
        form = "<Ii" if kind == ENUM else "<IQ"
        tail = b"".join(struct.pack(form, self.text(n), value) for n, value in values.items())
        return self.add(name, kind, len(values), 4 if kind == ENUM else 8, tail)

    @property
    def data(self) -> bytes:
        types = b"".join(self.types)
        head = struct.pack(
            "<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(self.texts)
        )
        return head + types + bytes(self.texts)
