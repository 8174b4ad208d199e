"""Symbols of the kernel, from its own kallsyms tables (scripts/kallsyms.c, kernel/kallsyms.c).

Names are compressed with a table of 256 tokens. Three
rules for addresses exist; the one is used that agrees with the addresses of symbols in VMCOREINFO.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from pykexec.dump.faults import DamagedDump, UnknownKernel
from pykexec.dump.kallsyms_tables import COUNT_MAX, TOKEN_MAX, TOKENS, Tables, find_tables

if TYPE_CHECKING:
    from pykexec.dump.kernel_memory import KernelMemory
    from pykexec.dump.vmcoreinfo import VmcoreInfo

TEXT_MAX = 12 << 20
"""Bytes of all names; those of 7.2 have 5 MiB."""
TEXT = (("_stext", "_etext"), ("_sinittext", "_einittext"))
BITS = (1 << 64) - 1


@dataclass(frozen=True)
class Place:
    """An address as `name+offset`; `module` is "" in the kernel's image."""

    name: str
    offset: int
    module: str = ""

    def __str__(self) -> str:
        where = f"{self.name}+{self.offset:#x}"
        return f"{where} [{self.module}]" if self.module else where


class Names:
    """Names by number: one text, because objects would take several times its size."""

    def __init__(self, names: Iterable[bytes]) -> None:
        text, self.starts = bytearray(b"\0"), array("I")
        for name in names:
            self.starts.append(len(text))
            text += name
            text += b"\0"
        self.text = bytes(text)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, number: int) -> bytes:
        start = self.starts[number]
        return self.text[start : self.text.index(b"\0", start)]

    def find(self, name: bytes) -> int | None:
        """The number of the first one with this name, or None."""
        at = self.text.find(b"\0" + name + b"\0") if name else -1
        return None if at < 0 else bisect_left(self.starts, at + 1)


class Symbols:
    """The symbols in the order of the tables, which is the order of the addresses."""

    def __init__(self, names: Names, addresses: array[int]) -> None:
        self.names, self.addresses = names, addresses
        self.found: dict[str, int | None] = {}

    def __len__(self) -> int:
        return len(self.names)

    def find(self, name: str) -> int | None:
        """The address of a symbol, or None. If several have the same name, that of the first."""
        if name not in self.found:
            at = self.names.find(name.encode())
            self.found[name] = None if at is None else self.addresses[at]
        return self.found[name]

    def address(self, name: str) -> int:
        """The address of a symbol. Raises UnknownKernel if there is none."""
        found = self.find(name)
        if found is None:
            raise UnknownKernel(f"the kernel has no symbol {name}")
        return found

    def first(self, *names: str) -> int:
        """The address of the first of these names that exists: kernels renamed it. Raises
        UnknownKernel."""
        for name in names:
            found = self.find(name)
            if found is not None:
                return found
        raise UnknownKernel(f"the kernel has no symbol {' or '.join(names)}")

    @cached_property
    def text(self) -> tuple[range, ...]:
        """The kernel's text, and its init text, which is freed after boot."""
        spans = ((self.find(a), self.find(b)) for a, b in TEXT)
        return tuple(range(a, b) for a, b in spans if a is not None and b is not None)

    def place(self, addr: int) -> Place | None:
        """The symbol that an address in the kernel's text belongs to."""
        at = bisect_right(self.addresses, addr) - 1
        if at < 0 or not any(addr in span for span in self.text):
            return None
        first = at
        while first > 0 and self.addresses[first - 1] == self.addresses[at]:
            first -= 1
        name = self.names[first].decode("utf-8", "backslashreplace")
        return Place(name, addr - self.addresses[at])


def read_symbols(kernel: KernelMemory, info: VmcoreInfo) -> Symbols:
    """Read all symbols. Raises UnknownKernel, DamagedDump, NotInDump."""
    tables = find_tables(kernel, info)
    if not 0 < tables.count <= COUNT_MAX:
        raise DamagedDump(f"kallsyms has {tables.count} symbols")
    tokens = _read_tokens(kernel, tables)
    packed = kernel.read(tables.names, tables.names_size)
    names = Names(unpacked(packed, tokens, tables.count))
    return Symbols(names, _read_addresses(kernel, info, tables, names))


def _read_tokens(kernel: KernelMemory, tables: Tables) -> list[bytes]:
    """What each byte of a packed name stands for."""
    index = array("H", kernel.read(tables.token_index, 2 * TOKENS))
    base = tables.token_table
    end = kernel.text(base + max(index) + 1, TOKEN_MAX) + b"\0"
    table = kernel.read(base, max(index) + 1) + end
    return [table[at : table.index(b"\0", at)] for at in index]


def unpacked(data: bytes, tokens: list[bytes], count: int) -> Iterator[bytes]:
    """Names without the leading type letter."""
    at, room = 0, TEXT_MAX
    try:
        for _ in range(count):
            size = data[at]
            at += 1
            if size & 0x80:  # since 6.1, for longer names
                size = size & 0x7F | data[at] << 7
                at += 1
            end = at + size
            name = b"".join([tokens[byte] for byte in data[at:end]])
            at = end
            room -= len(name)
            if room < 0:
                raise DamagedDump("the names of kallsyms have no end")
            yield name[1:]
    except IndexError:
        raise DamagedDump("the names of kallsyms end early") from None


def _read_addresses(
    kernel: KernelMemory, info: VmcoreInfo, tables: Tables, names: Names
) -> array[int]:
    """Addresses, by the rule that this kernel follows."""
    offsets = array("i", kernel.read(tables.offsets, 4 * len(names)))
    known = _known_symbols(info, names)
    for rule in rules(kernel, tables):
        if all(rule(at, offsets[at]) == addr for at, addr in known):
            return array("Q", [rule(at, offset) for at, offset in enumerate(offsets)])
    if tables.addresses is not None:  # before 4.6
        found = array("Q", kernel.read(tables.addresses, 8 * len(names)))
        if all(found[at] == addr for at, addr in known):
            return found
    raise UnknownKernel("the addresses of kallsyms follow none of the known rules")


Rule = Callable[[int, int], int]
"""The address of a symbol by its number and its signed offset."""


def rules(kernel: KernelMemory, tables: Tables) -> tuple[Rule, ...]:
    """The rules that a kernel with these tables may follow."""
    table = tables.offsets
    if tables.relative_base is None:  # 7.x

        def to_entry(at: int, offset: int) -> int:
            return table + 4 * at + offset & BITS

        return (to_entry,)
    base = kernel.u64(tables.relative_base)

    def absolute_per_cpu(at: int, offset: int) -> int:
        return offset if offset >= 0 else base - 1 - offset & BITS

    def to_base(at: int, offset: int) -> int:
        return base + (offset & 0xFFFFFFFF) & BITS

    return absolute_per_cpu, to_base


def _known_symbols(info: VmcoreInfo, names: Names) -> list[tuple[int, int]]:
    """(index in the table, address) of symbols that are in VMCOREINFO too."""
    found = [
        (at, info.symbol(name))
        for name in ("_stext", "init_uts_ns", "node_online_map", "prb")
        if info.has(f"SYMBOL({name})") and (at := names.find(name.encode())) is not None
    ]
    if not found:
        raise DamagedDump("kallsyms has none of the symbols in VMCOREINFO")
    return found
