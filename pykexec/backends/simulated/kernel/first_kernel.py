"""What the first kernel writes to its own memory: notes, at boot and at a panic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.abi.elf import NT_PRSTATUS, PR_REG_COUNT, elf_prstatus
from pykexec.backends.simulated.kernel.vmcoreinfo import kernel_base, vmcoreinfo_area
from pykexec.crash.notes import CORE, Note
from pykexec.memory.ranges import PhysRange

if TYPE_CHECKING:
    from pykexec.backends.simulated.kernel.layout import Layout
    from pykexec.backends.simulated.kernel.ram import Ram

PANICKING_PID = 1234
"""PID of the task on CPU 0; the other CPUs are idle (PID 0)."""
KERNEL_CS, KERNEL_DS = 0x10, 0x18
RIP, CS, RFLAGS, RSP, SS = 16, 17, 18, 19, 20
"""Indices in struct user_regs_struct."""
PANIC_OFFSET, IDLE_OFFSET = 0x1A2B40, 0xB1F0D0
"""Offsets from _text of the instruction that a CPU was executing."""
THREAD_SIZE = 16 << 10


def boot(layout: Layout, ram: Ram) -> None:
    """VMCOREINFO exists since boot; crash_notes are empty until a panic."""
    for frame in layout.kernel:
        ram.zero(frame.start, frame.size)
    ram.write(layout.vmcoreinfo.addr, vmcoreinfo_area(layout))


def panic(layout: Layout, ram: Ram) -> None:
    """__crash_kexec and machine_crash_shutdown: crash_save_vmcoreinfo adds CRASHTIME, and
    each CPU saves its registers (crash_save_cpu)."""
    ram.write(layout.vmcoreinfo.addr, vmcoreinfo_area(layout, crashed=True))
    for notes in layout.cpus:
        encoded = Note(CORE, NT_PRSTATUS, _prstatus(layout, notes.cpu)).encoded
        ram.write(notes.addr, encoded.ljust(notes.size, b"\0"))


def _prstatus(layout: Layout, cpu: int) -> bytes:
    """struct elf_prstatus: registers of a CPU in the kernel, as saved by crash_save_cpu."""
    text = kernel_base(layout) + (IDLE_OFFSET if cpu else PANIC_OFFSET)
    stack_frame = _stack_of(layout, cpu)
    registers = [0] * PR_REG_COUNT
    registers[RIP] = text
    registers[CS], registers[SS] = KERNEL_CS, KERNEL_DS
    registers[RFLAGS] = 0x46
    registers[RSP] = layout.page_offset_base + stack_frame.end - 0x138
    blank = dict.fromkeys(("si_signo", "si_code", "si_errno", "pr_cursig"), 0)
    blank |= dict.fromkeys(("pr_sigpend", "pr_sighold", "pr_ppid", "pr_pgrp", "pr_sid"), 0)
    built: bytes = elf_prstatus.build(
        {
            **blank,
            "_pad0": bytes(2),
            "pr_pid": 0 if cpu else PANICKING_PID,
            "pr_times": bytes(64),
            "pr_reg": registers,
            "pr_fpvalid": 0,
            "_pad1": bytes(4),
        }
    )
    return built


def _stack_of(layout: Layout, cpu: int) -> PhysRange:
    """Some memory in use that serves as this CPU's stack."""
    spans = (layout.in_use - layout.kernel_image).ranges or layout.kernel_image.ranges
    span = spans[cpu % len(spans)]
    return PhysRange(max(span.start, span.end - THREAD_SIZE), span.end)
