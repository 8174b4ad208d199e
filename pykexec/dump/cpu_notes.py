"""The notes of a dump that have the registers of its CPUs (NT_PRSTATUS)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pykexec.dump.architecture import registers_of
from pykexec.dump.registers import Registers

if TYPE_CHECKING:
    from pykexec.dump.reader import Dump

NT_PRSTATUS = 1
PID_OFFSET, REGS_OFFSET = 32, 112
"""In struct elf_prstatus, the same for all 64-bit architectures."""


def cpu_registers(dump: Dump) -> Iterator[tuple[int, Registers]]:
    """(PID, registers) of each note, in the order of the CPUs that have one."""
    layout = registers_of(dump.architecture)
    for name, kind, desc in dump.notes:
        if name == b"CORE" and kind == NT_PRSTATUS and len(desc) >= REGS_OFFSET + layout.size:
            pid = int.from_bytes(desc[PID_OFFSET : PID_OFFSET + 4], "little")
            yield pid, Registers.of(layout, desc[REGS_OFFSET : REGS_OFFSET + layout.size])
