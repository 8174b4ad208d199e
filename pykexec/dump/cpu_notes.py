"""The notes of a dump that have the registers of its CPUs (NT_PRSTATUS)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pykexec.dump.architecture import registers_of
from pykexec.dump.faults import DamagedDump, NotInDump, UnknownKernel
from pykexec.dump.registers import Registers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pykexec.dump.linux import Linux
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


def cpus_of_notes(linux: Linux, pids: Sequence[int], running: Sequence[int]) -> Sequence[int]:
    """The number of the CPU that each note is of. `pids` are those in the notes, `running` those of
    the tasks by CPU. An offline CPU has no note, nor one that did not respond to the NMI of the
    panic (fs/proc/vmcore.c leaves out empty ones), so that the place of a note does not tell."""
    places = range(len(pids))
    if len(pids) >= len(running):
        return places
    try:
        written = _written_notes(linux)
    except (DamagedDump, NotInDump, UnknownKernel):
        written = []
    if len(written) == len(pids):
        return written
    return _by_pid(pids, running) or places


def _written_notes(linux: Linux) -> list[int]:
    """The CPUs that have saved their registers (kernel/kexec_core.c: crash_save_cpu)."""
    notes = linux.memory.u64(linux.address("crash_notes"))
    cpus = range(len(linux.per_cpu_offsets))
    return [cpu for cpu in cpus if linux.memory.u32(linux.per_cpu(cpu, notes))]


def _by_pid(pids: Sequence[int], running: Sequence[int]) -> list[int] | None:
    """For each note the next CPU that ran its task; None if there is none."""
    found, cpu = list[int](), 0
    for pid in pids:
        while cpu < len(running) and running[cpu] != pid:
            cpu += 1
        if cpu == len(running):
            return None
        found.append(cpu)
        cpu += 1
    return found
