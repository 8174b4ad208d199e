"""Loaded modules: the list that starts at `modules`, how each taints the kernel, and the symbols of
one (kernel/module/)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykexec.dump.faults import DamagedDump
from pykexec.dump.symbols import Place
from pykexec.errors import KexecError

if TYPE_CHECKING:
    from pykexec.dump.linux import Linux

MODULES_MAX = 1 << 14
SYMBOLS_MAX = 1 << 17
SYMBOL_SIZE = 24
"""Elf64_Sym: name (4), info, other, section (2), value (8), size (8)."""
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


def place_in(linux: Linux, module: Module, addr: int) -> Place | None:
    """The symbol of a module that an address belongs to (kernel/module/kallsyms.c)."""
    tables = linux.pointer(module.address, "module.kallsyms")
    if not tables:
        return None
    count = linux.number(tables, "mod_kallsyms.num_symtab")
    if count > SYMBOLS_MAX:
        raise DamagedDump(f"the module {module.name} has {count} symbols")
    raw = linux.memory.read(linux.pointer(tables, "mod_kallsyms.symtab"), count * SYMBOL_SIZE)
    best = (0, 0)
    for at in range(0, len(raw), SYMBOL_SIZE):
        value = int.from_bytes(raw[at + 8 : at + 16], "little")
        section = int.from_bytes(raw[at + 6 : at + 8], "little")
        if section and best[0] < value <= addr:
            best = (value, int.from_bytes(raw[at : at + 4], "little"))
    if not best[0] or not module.holds(best[0]):
        return None
    try:
        texts = linux.pointer(tables, "mod_kallsyms.strtab")
        name = linux.memory.text(texts + best[1], NAME_MAX).decode("utf-8", "backslashreplace")
    except KexecError:
        return None
    return Place(name, addr - best[0], module.name)
