"""Backtraces of x86_64, as arch/x86/kernel/unwind_orc.c makes them for a live stack."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from pykexec.dump.linux import BITS
from pykexec.dump.registers import Registers
from pykexec.dump.stacks import FRAMES_MAX, LOST, State, Unwinder
from pykexec.dump.x86.orc import Base, Orc, OrcType, Rule
from pykexec.dump.x86.registers import IRET, LAYOUT
from pykexec.errors import KexecError

if TYPE_CHECKING:
    from pykexec.dump.tasks import Task

RESUME_BYTES = 1 << 10
"""Bytes of a stack to search for the first frame; __crash_kexec itself uses 200."""
FRAME_DEFAULT = 56
"""struct inactive_task_frame: r15 to r12, bx, bp, return address."""


class OrcUnwinder(Unwinder):
    """Unwinds by the kernel's ORC tables."""

    @cached_property
    def orc(self) -> Orc | None:
        try:
            return Orc(self.linux)
        except KexecError:
            return None

    def started(self, registers: Registers) -> State:
        return State(registers.ip, registers.sp, registers.values["rbp"], True, registers)

    def asleep(self, task: Task) -> State:
        """The state in the struct inactive_task_frame of a task."""
        linux = self.linux
        sp = linux.pointer(task.address, "task_struct.thread.sp")
        size = FRAME_DEFAULT
        if linux.types.has("inactive_task_frame.ret_addr"):
            size = linux.size("inactive_task_frame")
        raw = linux.memory.read(sp, size)
        ip = int.from_bytes(raw[-8:], "little")
        bp = int.from_bytes(raw[-16:-8], "little")
        return State(ip, sp + size, bp, False)

    def resumed(self, state: State) -> State:
        """For a CPU whose own instruction has no rule: the first return address on its stack from
        which the rules lead to the end of the stack. What crash_setup_regs (kexec.h) notes as rip
        may be any address near the function: a compiler is free to move the label of _THIS_IP_."""
        for at in range(state.sp + 7 & ~7, state.sp + RESUME_BYTES, 8):
            try:
                found = State(self.linux.memory.u64(at), at + 8, state.bp, False)
            except KexecError:
                break
            if self.is_text(found.ip) and self.ends(found):
                return found
        return LOST

    def ends(self, state: State) -> bool:
        """Whether the rules lead from here to the end of the stack or into user space."""
        for number in range(FRAMES_MAX):
            after = self.caller(state)
            if after is None or (after.registers and after.registers.from_user):
                return number > 0
            if not self.is_text(after.ip) and self.module_of(after.ip) is None:
                return False
            state = after
        return False

    def caller(self, state: State) -> State | None:
        """The next frame; None at the end, LOST where no rule leads on."""
        addr = state.ip if state.exact else state.ip - 1
        try:
            rule = self.orc.rule(addr, self.module_of(addr)) if self.orc else None
            if rule is None or rule.kind is OrcType.UNDEFINED:
                return LOST
            if rule.kind is OrcType.END:
                return None
            return self.applied(rule, state) or LOST
        except KexecError:
            return LOST

    def applied(self, rule: Rule, state: State) -> State | None:
        """The state of the caller by a rule, as in unwind_next_frame."""
        sp = self.stack_pointer(rule, state)
        if sp is None:
            return None
        memory = self.linux.memory
        if rule.kind is OrcType.CALL:
            found = State(memory.u64(sp - 8), sp, state.bp, False)
        elif rule.kind is OrcType.REGS:
            registers = Registers.of(LAYOUT, memory.read(sp, LAYOUT.size))
            found = _of_saved(registers, state.bp)
        else:
            registers = Registers.of(LAYOUT, memory.read(sp, LAYOUT.size - IRET), "rip")
            found = _of_saved(registers, state.bp)
        if rule.bp_base is Base.PREV_SP:
            return replace(found, bp=memory.u64(sp + rule.bp_offset & BITS))
        if rule.bp_base is Base.BP:
            return replace(found, bp=memory.u64(state.bp + rule.bp_offset & BITS))
        return found

    def stack_pointer(self, rule: Rule, state: State) -> int | None:
        memory, values = self.linux.memory, state.registers.values if state.registers else {}
        match rule.sp_base:
            case Base.SP:
                return state.sp + rule.sp_offset & BITS
            case Base.BP:
                return state.bp + rule.sp_offset & BITS
            case Base.SP_INDIRECT:
                return memory.u64(state.sp) + rule.sp_offset & BITS
            case Base.BP_INDIRECT:
                return memory.u64(state.bp + rule.sp_offset & BITS)
            case Base.R10:
                return values.get("r10")
            case Base.R13:
                return values.get("r13")
            case Base.DI:
                return values.get("rdi")
            case Base.DX:
                return values.get("rdx")
            case Base.AX:
                return values.get("rax")
        return None


def _of_saved(registers: Registers, bp: int) -> State:
    """The state in which an interrupt or a fault occurred."""
    return State(registers.ip, registers.sp, registers.values.get("rbp", bp), True, registers)
