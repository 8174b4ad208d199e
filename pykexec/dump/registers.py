"""Registers of the CPUs, from the NT_PRSTATUS notes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pykexec.dump.reader import Dump

NT_PRSTATUS = 1
PID_OFFSET, REGS_OFFSET = 32, 112
NAMES = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx",
    "rsi", "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss",
)  # fmt: skip
"""struct pt_regs of x86_64, the beginning of user_regs_struct; 8 bytes each."""
OFFSETS = {name: number * 8 for number, name in enumerate(NAMES)}
SIZE = len(NAMES) * 8
IRET = OFFSETS["rip"]
"""Start of the registers that the processor itself pushes."""


@dataclass(frozen=True, slots=True)
class Registers:
    """`values` by their names; registers that a partial frame did not save are missing."""

    values: dict[str, int]

    @classmethod
    def of(cls, raw: bytes, first: str = NAMES[0]) -> Registers:
        """`raw` starts with the register `first`."""
        names = NAMES[NAMES.index(first) :]
        return cls(
            {name: int.from_bytes(raw[n * 8 : n * 8 + 8], "little") for n, name in enumerate(names)}
        )

    @property
    def from_user(self) -> bool:
        """The CPU was not in the kernel."""
        return self.values["cs"] & 3 == 3


def cpu_registers(dump: Dump) -> Iterator[tuple[int, Registers]]:
    """(PID, registers) of each note, in the order of the CPUs that have one."""
    for name, kind, desc in dump.notes:
        if name == b"CORE" and kind == NT_PRSTATUS and len(desc) >= REGS_OFFSET + SIZE:
            pid = int.from_bytes(desc[PID_OFFSET : PID_OFFSET + 4], "little")
            yield pid, Registers.of(desc[REGS_OFFSET : REGS_OFFSET + SIZE])
