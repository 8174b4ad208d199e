"""Backtraces, as arch/x86/kernel/unwind_orc.c makes them for a live stack. Where the tables end or
the stack is damaged, the return addresses found on the stack follow, as guesses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from pykexec.dump.linux import BITS, Linux
from pykexec.dump.modules import Module, modules, place_in
from pykexec.dump.orc import Base, Kind, Orc, Rule
from pykexec.dump.registers import IRET, SIZE, Registers
from pykexec.errors import KexecError

if TYPE_CHECKING:
    from pykexec.dump.symbols import Place
    from pykexec.dump.tasks import Task

FRAMES_MAX = 128
GUESSES_MAX = 64
STACK_SIZE = 16 << 10
"""THREAD_SIZE of x86_64."""
RESUME_BYTES = 1 << 10
"""Bytes of a stack to search for the first frame; __crash_kexec itself uses 200."""
FRAME_DEFAULT = 56
"""struct inactive_task_frame: r15 to r12, bx, bp, return address."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One line of a backtrace. `guess`: an address found on the stack, possibly of an older
    call."""

    ip: int
    place: Place | None
    guess: bool = False
    registers: Registers | None = None
    """Registers that an interrupt or a fault saved here."""

    def __str__(self) -> str:
        where = str(self.place) if self.place else f"{self.ip:#x}"
        return f"? {where}" if self.guess else where


@dataclass(frozen=True, slots=True)
class State:
    """State of the unwinder. `exact`: ip is where the CPU was, not where a call returns to."""

    ip: int
    sp: int
    bp: int
    exact: bool
    registers: Registers | None = None


LOST = State(0, 0, 0, False)


class Unwinder:
    """Unwinds the stacks of one kernel."""

    def __init__(self, linux: Linux) -> None:
        self.linux = linux
        self.text = linux.symbols.text

    @cached_property
    def modules(self) -> list[Module]:
        try:
            return list(modules(self.linux))
        except KexecError:
            return []

    @cached_property
    def orc(self) -> Orc | None:
        try:
            return Orc(self.linux)
        except KexecError:
            return None

    def is_text(self, ip: int) -> bool:
        return any(ip in span for span in self.text)

    def module_of(self, ip: int) -> Module | None:
        return next((module for module in self.modules if module.holds(ip)), None)

    def place_of(self, ip: int, exact: bool) -> Place | None:
        """A call may be the last instruction of its function, so the byte before a return address
        is looked up (kernel/kallsyms.c: sprint_backtrace)."""
        if exact:
            return self.place(ip)
        found = self.place(ip - 1)
        return replace(found, offset=found.offset + 1) if found else None

    def place(self, ip: int) -> Place | None:
        """None for an address outside of text."""
        if self.is_text(ip):
            return self.linux.symbols.place(ip)
        module = self.module_of(ip)
        return place_in(self.linux, module, ip) if module else None

    def of_registers(self, registers: Registers) -> list[Frame]:
        """The backtrace from where a CPU was."""
        values = registers.values
        if registers.from_user:
            return [Frame(values["rip"], None)]
        return list(
            self.frames(State(values["rip"], values["rsp"], values["rbp"], True, registers))
        )

    def of_task(self, task: Task) -> list[Frame]:
        """The backtrace from where a task that is not running went to sleep (struct
        inactive_task_frame)."""
        linux, sp = self.linux, task.kernel_stack
        size = FRAME_DEFAULT
        if linux.types.has("inactive_task_frame.ret_addr"):
            size = linux.size("inactive_task_frame")
        raw = linux.memory.read(sp, size)
        ip = int.from_bytes(raw[-8:], "little")
        bp = int.from_bytes(raw[-16:-8], "little")
        return list(self.frames(State(ip, sp + size, bp, False)))

    def frames(self, state: State) -> Iterator[Frame]:
        """Innermost first."""
        seen: set[tuple[int, int]] = set()
        saved = None
        while len(seen) < FRAMES_MAX and (state.ip, state.sp) not in seen:
            seen.add((state.ip, state.sp))
            yield Frame(state.ip, self.place_of(state.ip, state.exact), registers=saved)
            after = self.caller(state)
            if after is LOST and len(seen) == 1 and state.exact:
                after = self.resumed(state)
            if after is None:
                return
            if after.registers and after.registers.from_user:
                return
            if self.module_of(after.ip) is None and not self.is_text(after.ip):
                break
            saved = after.registers if after.registers is not state.registers else None
            state = after
        yield from self.guesses(state.sp)

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
            if rule is None or rule.kind is Kind.UNDEFINED:
                return LOST
            if rule.kind is Kind.END:
                return None
            return self.applied(rule, state) or LOST
        except KexecError:
            return LOST

    def applied(self, rule: Rule, state: State) -> State | None:
        """unwind_next_frame."""
        sp = self.stack_pointer(rule, state)
        if sp is None:
            return None
        memory = self.linux.memory
        if rule.kind is Kind.CALL:
            found = State(memory.u64(sp - 8), sp, state.bp, False)
        elif rule.kind is Kind.REGS:
            registers = Registers.of(memory.read(sp, SIZE))
            found = _of_saved(registers, state.bp)
        else:
            registers = Registers.of(memory.read(sp, SIZE - IRET), "rip")
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

    def guesses(self, sp: int) -> Iterator[Frame]:
        """The addresses in text that are found on the stack, up to its end."""
        left, end = GUESSES_MAX, (sp | STACK_SIZE - 1) + 1
        for at in range(sp + 7 & ~7, end, 8):
            try:
                ip = self.linux.memory.u64(at)
                if self.is_text(ip) or self.module_of(ip):
                    place = self.place_of(ip, False)
                    if place and place.offset > 1:
                        yield Frame(ip, place, guess=True)
                        left -= 1
            except KexecError:
                return
            if not left:
                return


def _of_saved(registers: Registers, bp: int) -> State:
    """The state in which an interrupt or a fault occurred."""
    values = registers.values
    return State(values["rip"], values["rsp"], values.get("rbp", bp), True, registers)
