"""Types of the kernel, from its BTF (Documentation/bpf/btf.rst): offsets of members, sizes of
structures, and values of enumerations."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykexec.abi.btf import BTF_MAGIC, btf_header
from pykexec.dump.faults import DamagedDump, UnknownKernel

if TYPE_CHECKING:
    from pykexec.dump.kernel_memory import KernelMemory

TYPE, MEMBER, ENUM64 = struct.Struct("<III"), struct.Struct("<III"), struct.Struct("<III")
ENUM, ARRAY = struct.Struct("<Ii"), struct.Struct("<III")
SIZE_MAX = 12 << 20
"""That of 7.2 has 5 MiB."""
COUNT_MAX = 1 << 19
DEPTH = 16
"""Limit for chains of typedefs, and of arrays in arrays."""
SEARCHED_MAX = 1 << 13
"""Members to look at for one name. The largest structures have some hundred."""
KIND_INT, KIND_PTR, KIND_ARRAY, KIND_STRUCT, KIND_UNION, KIND_ENUM, KIND_FWD = range(1, 8)
KIND_ENUM64 = 19
TAIL = {1: 4, 3: 12, 14: 4, 17: 4}
"""Bytes after the three words of a type; and bytes per member, for types with several:"""
EACH = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}
ALIASES = frozenset((8, 9, 10, 11, 18))
"""typedef, volatile, const, restrict, type_tag: the type they refer to counts."""
KINDS = 19


@dataclass(frozen=True, slots=True)
class Member:
    """Where a member is, in bits from the start of the outermost structure. `bits` is 0 unless it
    is a bit field."""

    bit: int
    bits: int
    type: int

    @property
    def offset(self) -> int:
        """The offset of the member in bytes."""
        return self.bit // 8


class Types:
    """BTF of the kernel's image; types are numbered from 1."""

    def __init__(self, data: bytes) -> None:
        if len(data) < btf_header.sizeof():
            raise DamagedDump("BTF ends in its header")
        head = btf_header.parse(data)
        types, texts = head.hdr_len + head.type_off, head.hdr_len + head.str_off
        end = max(types + head.type_len, texts + head.str_len)
        if head.magic != BTF_MAGIC or end > len(data):
            raise DamagedDump("BTF is invalid, or does not fit into its section")
        if head.type_len + head.str_len > len(data):
            raise DamagedDump("BTF: types and names overlap")
        self.data = data[types : types + head.type_len]
        self.texts = data[texts : texts + head.str_len]
        self.offsets = array("I", (0,))
        self.named: dict[int, int] = {}
        """Offset of the name: the number of the structure or union."""
        self.enums: dict[int, int] = {}
        self.index()

    def index(self) -> None:
        """Find where each type starts."""
        data, at = self.data, 0
        try:
            while at < len(data):
                name, info, _ = TYPE.unpack_from(data, at)
                kind = info >> 24 & 31
                if not 0 < kind <= KINDS or len(self.offsets) > COUNT_MAX:
                    raise DamagedDump(f"BTF: type {len(self.offsets)} is of kind {kind}")
                if kind in (KIND_STRUCT, KIND_UNION):
                    self.named.setdefault(name, len(self.offsets))
                elif kind in (KIND_ENUM, KIND_ENUM64):
                    self.enums.setdefault(name, len(self.offsets))
                self.offsets.append(at)
                at += 12 + TAIL.get(kind, 0) + EACH.get(kind, 0) * (info & 0xFFFF)
        except struct.error:
            raise DamagedDump("BTF: the last type is cut off") from None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def text(self, at: int) -> str:
        """A name; "" for a type without one."""
        end = self.texts.find(b"\0", at)
        return self.texts[at : end if end >= 0 else at].decode("latin-1")

    def head(self, number: int) -> tuple[str, int, int, int, bool]:
        """(name, kind, members, size or type, whether members may be bit fields)."""
        if not 0 < number < len(self.offsets):
            raise DamagedDump(f"BTF: there is no type {number}")
        name, info, size = TYPE.unpack_from(self.data, self.offsets[number])
        return self.text(name), info >> 24 & 31, info & 0xFFFF, size, bool(info >> 31)

    def struct(self, name: str) -> int:
        """The number of a structure or union. Raises UnknownKernel."""
        return self.lookup(self.named, name, "structure")

    def lookup(self, table: dict[int, int], name: str, what: str) -> int:
        where = self.texts.find(b"\0" + name.encode() + b"\0") + 1
        found = table.get(where) if where else None
        if found is None:
            raise UnknownKernel(f"BTF has no {what} {name}")
        return found

    def resolved(self, number: int) -> int:
        """The type that a typedef, const or volatile stands for."""
        for _ in range(DEPTH):
            _, kind, _, target, _ = self.head(number)
            if kind not in ALIASES:
                return number
            number = target
        raise DamagedDump("BTF: a typedef has no end")

    def size_of(self, number: int) -> int:
        """Size of a value, in bytes."""
        total = 1
        for _ in range(DEPTH):
            number = self.resolved(number)
            _, kind, _, size, _ = self.head(number)
            if kind == KIND_PTR:
                return total * 8
            if kind != KIND_ARRAY:
                return total * size
            element, count = self.array(number)
            number, total = element, total * count
        raise DamagedDump("BTF: an array has no end")

    def array(self, number: int) -> tuple[int, int]:
        """(type, number) of the elements of an array."""
        number = self.resolved(number)
        if self.head(number)[1] != KIND_ARRAY:
            raise UnknownKernel(f"BTF: type {number} is not an array")
        element, _, count = ARRAY.unpack_from(self.data, self.offsets[number] + 12)
        return element, count

    def has(self, path: str) -> bool:
        """Whether a member such as "task_struct.__state" exists."""
        try:
            self.member(path)
        except UnknownKernel:
            return False
        return True

    def member(self, path: str) -> Member:
        """A member of a named structure, also if it is in an anonymous structure inside; a dot
        selects a member of a structure. Raises UnknownKernel."""
        name, *members = path.split(".")
        number, bit, found = self.struct(name), 0, None
        for step in members:
            found = self.search(self.resolved(number), step)
            if found is None:
                raise UnknownKernel(f"BTF: {name} has no member {'.'.join(members)}")
            bit += found.bit
            number = found.type
        assert found, "a path has a member"
        return Member(bit, found.bits, found.type)

    def search(self, number: int, name: str) -> Member | None:
        """A member of a structure, or of an anonymous one inside; outer ones first. A type is
        searched once: without the member, it has none elsewhere either."""
        waiting, seen, left = [(0, number)], {number}, SEARCHED_MAX
        for base, outer in waiting:
            for found, bit, bits, kind_of in self.members(outer, left):
                left -= 1
                if found == name:
                    return Member(base + bit, bits, kind_of)
                inner = 0 if found else self.resolved(kind_of)
                if inner and inner not in seen:
                    seen.add(inner)
                    waiting.append((base + bit, inner))
        return None

    def members(self, number: int, most: int) -> Iterator[tuple[str, int, int, int]]:
        """(name, bit, bits, type) of the members of a structure or union; none of another type."""
        _, kind, count, _, fields = self.head(number)
        if kind not in (KIND_STRUCT, KIND_UNION):
            return
        start = self.offsets[number] + 12
        if count > most or start + 12 * count > len(self.data):
            raise DamagedDump("BTF: a structure is cut off, or has too many members")
        for at in range(start, start + 12 * count, 12):
            name, kind_of, place = MEMBER.unpack_from(self.data, at)
            bit, bits = (place & 0xFFFFFF, place >> 24) if fields else (place, 0)
            yield self.text(name), bit, bits, kind_of

    def offset(self, path: str) -> int:
        """Bytes from the start of a structure to a member."""
        return self.member(path).offset

    def enumerators(self, name: str) -> dict[str, int]:
        """All names and values of an enumeration."""
        number = self.lookup(self.enums, name, "enumeration")
        _, kind, count, _, _ = self.head(number)
        start, each = self.offsets[number] + 12, 8 if kind == KIND_ENUM else 12
        raw = self.data[start : start + each * count]
        if len(raw) < each * count:
            raise DamagedDump("BTF: an enumeration is cut off")
        if kind == KIND_ENUM:
            return {self.text(at): value for at, value in ENUM.iter_unpack(raw)}
        return {self.text(at): low | high << 32 for at, low, high in ENUM64.iter_unpack(raw)}


def read_types(kernel: KernelMemory, start: int, end: int) -> Types:
    """The types in the section .BTF, [start, end). Raises DamagedDump, NotInDump."""
    if not 0 < end - start <= SIZE_MAX:
        raise DamagedDump(f"BTF has {end - start} bytes")
    return Types(kernel.read(start, end - start))
