"""Loaded modules: the list that starts at `modules`, how each taints the kernel, and the symbols of
one (kernel/module/)."""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykexec.dump.faults import DamagedDump
from pykexec.dump.symbols import Place
from pykexec.errors import KexecError

if TYPE_CHECKING:
    from pykexec.dump.linux import Linux

MODULES_MAX = 1 << 14
SPANS_MAX = 16
"""MOD_MEM_NUM_TYPES is 7."""
SYMBOLS_MAX = 1 << 17
SYMBOLS_KEPT_MAX = 1 << 18
"""Limit for those of all modules that are on stacks."""
SYMBOL = struct.Struct("<I2xHQ8x")
"""Elf64_Sym: name, info, other, section, value, size."""
SYMBOL_SIZE = SYMBOL.size
NAME_MAX = 512
UNFORMED = 3
"""MODULE_STATE_UNFORMED: it is still being set up."""
TAINTS = (("P", 0), ("O", 12), ("F", 1), ("C", 10), ("E", 13), ("K", 15))
"""Taint flags of a module as /proc/modules shows them (module_flags_taint): letter and bit."""


@dataclass(frozen=True, slots=True)
class Module:
    """`spans` are [start, end) of its memory; text comes first."""

    address: int
    name: str
    size: int
    spans: tuple[tuple[int, int], ...]
    taint: str

    def holds(self, addr: int) -> bool:
        return any(start <= addr < end for start, end in self.spans)


def modules(linux: Linux) -> Iterator[Module]:
    """The loaded modules, the newest first, as in /proc/modules."""
    head = linux.address("modules")
    for addr in linux.list_of(head, "module.list", MODULES_MAX):
        if linux.number(addr, "module.state") == UNFORMED:
            continue
        spans = tuple(_spans_of(linux, addr))
        taints = linux.number(addr, "module.taints")
        letters = "".join(letter for letter, bit in TAINTS if taints >> bit & 1)
        size = sum(end - start for start, end in spans)
        yield Module(addr, linux.text(addr, "module.name"), size, spans, letters)


def _spans_of(linux: Linux, addr: int) -> Iterator[tuple[int, int]]:
    """module_memory since 6.4; before that two module_layouts, of which `init` has been freed."""
    if linux.types.has("module.mem"):
        element, count = linux.types.array(linux.member("module.mem").type)
        if count > SPANS_MAX:
            raise DamagedDump(f"a module has {count} pieces of memory")
        each = linux.types.size_of(element)
        starts = [linux.offset("module.mem") + number * each for number in range(count)]
        kind = "module_memory"
    else:
        starts, kind = [linux.offset("module.core_layout")], "module_layout"
    for start in starts:
        base = linux.pointer(addr + start, f"{kind}.base")
        size = linux.number(addr + start, f"{kind}.size")
        if base and size:
            yield base, base + size


class ModuleSymbols:
    """Symbols of the modules that are asked for (kernel/module/kallsyms.c); each table is read
    once."""

    def __init__(self, linux: Linux) -> None:
        self.linux, self.left = linux, SYMBOLS_KEPT_MAX
        self.tables: dict[int, tuple[list[int], list[int]]] = {}
        """By the module's address: values, sorted, and the offsets of their names."""

    def place(self, module: Module, addr: int) -> Place | None:
        """The symbol of a module that an address belongs to. Raises KexecError."""
        linux = self.linux
        tables = linux.pointer(module.address, "module.kallsyms")
        if not tables:
            return None
        if module.address not in self.tables:
            self.tables[module.address] = self.read(module, tables)
        values, names = self.tables[module.address]
        at = bisect_right(values, addr) - 1
        if at < 0 or not module.holds(values[at]):
            return None
        at = bisect_left(values, values[at])
        try:
            texts = linux.pointer(tables, "mod_kallsyms.strtab")
            name = linux.memory.text(texts + names[at], NAME_MAX)
        except KexecError:
            return None
        return Place(name.decode("utf-8", "backslashreplace"), addr - values[at], module.name)

    def read(self, module: Module, tables: int) -> tuple[list[int], list[int]]:
        """Of several symbols with the same value, the first one stays first."""
        linux = self.linux
        count = linux.number(tables, "mod_kallsyms.num_symtab")
        if count > min(SYMBOLS_MAX, self.left):
            raise DamagedDump(f"the module {module.name} has {count} symbols")
        self.left -= count
        raw = linux.memory.read(linux.pointer(tables, "mod_kallsyms.symtab"), count * SYMBOL_SIZE)
        found = sorted(
            (value, number, name)
            for number, (name, section, value) in enumerate(SYMBOL.iter_unpack(raw))
            if section and value
        )
        return [value for value, _, _ in found], [name for _, _, name in found]
