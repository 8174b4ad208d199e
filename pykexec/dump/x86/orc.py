"""ORC: the kernel's own tables that give the caller's frame for each instruction
(Documentation/arch/x86/orc-unwinder.rst). One table for the kernel image, one for each module."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from pykexec.dump.faults import UnknownKernel

if TYPE_CHECKING:
    from pykexec.dump.linux import Linux
    from pykexec.dump.modules import Module

ENTRY_SIZE, IP_SIZE = 6, 4
ENTRIES_MAX = 1 << 22


class Base(Enum):
    """The register that a rule starts from (asm/orc_types.h: ORC_REG_*)."""

    UNDEFINED = auto()
    PREV_SP = auto()
    SP = auto()
    BP = auto()
    SP_INDIRECT = auto()
    BP_INDIRECT = auto()
    AX = auto()
    DX = auto()
    DI = auto()
    R10 = auto()
    R13 = auto()


OLD_BASES = (
    Base.UNDEFINED, Base.PREV_SP, Base.DX, Base.DI, Base.BP, Base.SP, Base.R10, Base.R13,
    Base.BP_INDIRECT, Base.SP_INDIRECT,
)  # fmt: skip
NEW_BASES = (
    Base.UNDEFINED, Base.AX, Base.DX, Base.SP, Base.BP, Base.DI, Base.R10, Base.R13, Base.PREV_SP,
    Base.SP_INDIRECT, Base.BP_INDIRECT,
)  # fmt: skip
"""Indexed by their number. 7.2 numbers them differently from 6.12, and no type shows which. The
first instruction of a function does: its caller's frame is above the return address, at SP + 8."""
PLAIN_FUNCTION = "schedule"


class OrcType(Enum):
    """What the rule's base and offset point at."""

    UNDEFINED = auto()
    END = auto()
    CALL = auto()
    REGS = auto()
    REGS_PARTIAL = auto()


OLD_KINDS = (OrcType.CALL, OrcType.REGS, OrcType.REGS_PARTIAL)
"""Up to 6.3, with a separate bit for the end."""
NEW_KINDS = (OrcType.UNDEFINED, OrcType.END, OrcType.CALL, OrcType.REGS, OrcType.REGS_PARTIAL)


@dataclass(frozen=True, slots=True)
class Rule:
    """How to get from one frame to that of its caller."""

    sp_base: Base
    sp_offset: int
    bp_base: Base
    bp_offset: int
    kind: OrcType


@dataclass(frozen=True, slots=True)
class Table:
    """`count` sorted addresses, each relative to its own location, and as many entries."""

    ips: int
    entries: int
    count: int


class Orc:
    """Rules by address. Raises UnknownKernel if the kernel was built without ORC."""

    def __init__(self, linux: Linux) -> None:
        self.linux = linux
        symbols = linux.symbols
        start = symbols.address("__start_orc_unwind_ip")
        count = (symbols.address("__stop_orc_unwind_ip") - start) // IP_SIZE
        if not 0 < count <= ENTRIES_MAX:
            raise UnknownKernel(f"the kernel's ORC table has {count} entries")
        self.table = Table(start, symbols.address("__start_orc_unwind"), count)
        self.fields = Fields(linux)
        self.bases = self.numbering(symbols.address(PLAIN_FUNCTION))

    def numbering(self, entry: int) -> tuple[Base, ...]:
        """Raises UnknownKernel for an unknown numbering."""
        raw = self.find(self.table, entry)
        number = self.fields.number(raw or b"", "sp_reg")
        for bases in (OLD_BASES, NEW_BASES):
            if raw and number < len(bases) and bases[number] is Base.SP:
                return bases
        raise UnknownKernel(f"ORC has number {number} for the stack pointer")

    def rule(self, addr: int, module: Module | None) -> Rule | None:
        """The rule for the instruction at `addr`; None if the table has none that leads on."""
        table = self.of_module(module) if module else self.table
        raw = self.find(table, addr) if table else None
        return self.fields.rule(raw, self.bases) if raw else None

    def find(self, table: Table, addr: int) -> bytes | None:
        """The last entry that starts at or before an address."""
        low, high = 0, table.count
        while low < high:
            middle = (low + high) // 2
            if self.ip(table, middle) <= addr:
                low = middle + 1
            else:
                high = middle
        at = table.entries + (low - 1) * ENTRY_SIZE
        return self.linux.memory.read(at, ENTRY_SIZE) if low else None

    def ip(self, table: Table, number: int) -> int:
        at = table.ips + number * IP_SIZE
        raw = self.linux.memory.read(at, IP_SIZE)
        return at + int.from_bytes(raw, "little", signed=True)

    def of_module(self, module: Module) -> Table | None:
        linux, arch = self.linux, module.address + self.linux.offset("module.arch")
        count = linux.number(arch, "mod_arch_specific.num_orcs")
        if not 0 < count <= ENTRIES_MAX:
            return None
        return Table(
            linux.pointer(arch, "mod_arch_specific.orc_unwind_ip"),
            linux.pointer(arch, "mod_arch_specific.orc_unwind"),
            count,
        )


class Fields:
    """The bit fields of this kernel's struct orc_entry."""

    def __init__(self, linux: Linux) -> None:
        types = linux.types
        names = ("sp_offset", "bp_offset", "sp_reg", "bp_reg", "type")
        self.members = {name: types.member(f"orc_entry.{name}") for name in names}
        self.ends = types.has("orc_entry.end")
        if self.ends:
            self.members["end"] = types.member("orc_entry.end")
        self.kinds = OLD_KINDS if self.ends else NEW_KINDS

    def number(self, raw: bytes, name: str) -> int:
        """A bit field."""
        member = self.members[name]
        return int.from_bytes(raw, "little") >> member.bit & (1 << member.bits) - 1

    def offset(self, raw: bytes, name: str) -> int:
        """A signed member of two bytes."""
        at = self.members[name].offset
        return int.from_bytes(raw[at : at + 2], "little", signed=True)

    def rule(self, raw: bytes, bases: tuple[Base, ...]) -> Rule | None:
        """None for numbers without a meaning."""
        sp, bp = self.number(raw, "sp_reg"), self.number(raw, "bp_reg")
        kind = self.number(raw, "type")
        if kind >= len(self.kinds) or max(sp, bp) >= len(bases):
            return None
        ends = self.ends and self.number(raw, "end")
        return Rule(
            bases[sp],
            self.offset(raw, "sp_offset"),
            bases[bp],
            self.offset(raw, "bp_offset"),
            OrcType.END if ends else self.kinds[kind],
        )
