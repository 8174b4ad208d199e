"""Backtraces of arm64, as arch/arm64/kernel/stacktrace.c makes them: each function stores x29 and
x30 as a frame record, and x29 points to the record of the function that runs.

The entry code makes such a record inside of the pt_regs that it saves: since 6.13 with a type
(struct frame_record_meta), before that with the interrupted pc as the return address.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from pykexec.dump.arm64.registers import LAYOUT
from pykexec.dump.linux import BITS
from pykexec.dump.registers import Registers
from pykexec.dump.stacks import LOST, State, Unwinder
from pykexec.errors import KexecError

if TYPE_CHECKING:
    from pykexec.dump.tasks import Task

RECORD_SIZE = 16
META_PT_REGS = 2
"""FRAME_META_TYPE_PT_REGS of asm/stacktrace/frame.h; the other type ends the stack."""
KERNEL_BIT = 1 << 55
"""An address with this bit belongs to the kernel, whatever a signature has put above it."""


class FrameUnwinder(Unwinder):
    """Unwinds by frame records."""

    @cached_property
    def signature(self) -> int:
        """A mask of the bits of a return address that pointer authentication uses."""
        return self.linux.dump.info.number("KERNELPACMASK", 0) & BITS

    @cached_property
    def record_offset(self) -> int | None:
        """Offset of the frame record in struct pt_regs."""
        try:
            return self.linux.offset("pt_regs.stackframe")
        except KexecError:
            return None

    @cached_property
    def has_types(self) -> bool:
        try:
            return self.linux.types.has("frame_record_meta.type")
        except KexecError:
            return False

    def started(self, registers: Registers) -> State:
        return State(registers.ip, registers.sp, registers.values["x29"], True, registers)

    def asleep(self, task: Task) -> State:
        """The state that cpu_switch_to saved."""
        linux, saved = self.linux, "task_struct.thread.cpu_context"
        sp = linux.pointer(task.address, f"{saved}.sp")
        return State(
            self.returned(linux.pointer(task.address, f"{saved}.pc")),
            sp,
            linux.pointer(task.address, f"{saved}.fp"),
            False,
        )

    def returned(self, addr: int) -> int:
        """A return address without its signature (ptrauth_strip_kernel_insn_pac)."""
        return addr | self.signature if addr & KERNEL_BIT else addr

    def caller(self, state: State) -> State | None:
        """unwind_next: None at the record of zeros that the entry from user space, or a new task,
        starts with."""
        record = state.bp
        if record % 8:
            return LOST
        try:
            raw = self.linux.memory.read(record, RECORD_SIZE)
            saved = int.from_bytes(raw[:8], "little")
            addr = self.returned(int.from_bytes(raw[8:], "little"))
            if not saved and not addr:
                return self.after_zeros(record)
            registers = self.registers_around(record)
        except KexecError:
            return LOST
        if registers and registers.ip == addr and registers.values["x29"] == saved:
            return State(addr, registers.sp, saved, True, registers)
        return self.unrecorded(state, addr) or State(addr, record + RECORD_SIZE, saved, False)

    def unrecorded(self, state: State, recorded: int) -> State | None:
        """The caller of a function that has no frame record: a leaf, or one at its first or last
        instructions. Only x30 has the address to return to, which `recorded` skips. x30 is out of
        date if it points into the function itself, which has then called another one."""
        if not state.exact or state.registers is None:
            return None
        link = self.returned(state.registers.values["x30"])
        here, caller = self.place_of(state.ip, True), self.place_of(link, False)
        if link == recorded or here is None or caller is None or here.name == caller.name:
            return None
        return State(link, state.sp, state.bp, False)

    def after_zeros(self, record: int) -> State | None:
        """The end, or the instruction that an exception interrupted. Raises KexecError."""
        if not self.has_types or self.linux.memory.u64(record + RECORD_SIZE) != META_PT_REGS:
            return None
        registers = self.registers_around(record)
        return self.started(registers) if registers else LOST

    def registers_around(self, record: int) -> Registers | None:
        """The pt_regs that a frame record would be in. Raises KexecError."""
        if self.record_offset is None:
            return None
        start = record - self.record_offset
        return Registers.of(LAYOUT, self.linux.memory.read(start, LAYOUT.size))
