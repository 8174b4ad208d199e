"""Backtraces. Each architecture has its own rules for getting from a frame to its caller's; where
they end or the stack is damaged, the return addresses found on the stack follow, as guesses."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from pykexec.dump.modules import Module, ModuleSymbols, modules
from pykexec.errors import KexecError

if TYPE_CHECKING:
    from pykexec.dump.linux import Linux
    from pykexec.dump.registers import Registers
    from pykexec.dump.symbols import Place
    from pykexec.dump.tasks import Task

FRAMES_MAX = 128
GUESSES_MAX = 64
STACK_SIZE = 16 << 10
"""THREAD_SIZE of x86_64, and of arm64 with pages of up to 16 KiB; with larger ones it is a page."""


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
    """The frame pointer: rbp of x86_64, x29 of arm64."""
    exact: bool
    registers: Registers | None = None


LOST = State(0, 0, 0, False)


class Unwinder:
    """Unwinds the stacks of one kernel. A subclass has the rules of an architecture."""

    def __init__(self, linux: Linux) -> None:
        self.linux = linux
        self.text = linux.symbols.text
        self.module_symbols = ModuleSymbols(linux)

    def started(self, registers: Registers) -> State:
        """The state at the instruction where a CPU was."""
        raise NotImplementedError

    def asleep(self, task: Task) -> State:
        """The state at which a task that is not running went to sleep. Raises KexecError."""
        raise NotImplementedError

    def caller(self, state: State) -> State | None:
        """The next frame; None at the end, LOST where no rule leads on."""
        raise NotImplementedError

    def resumed(self, state: State) -> State:
        """Where to go on if no rule leads on from the instruction where a CPU was."""
        return LOST

    @cached_property
    def spans(self) -> list[tuple[int, int, Module]]:
        """[start, end) of the memory of modules, sorted; those of a damaged list up to the
        damage."""
        found: list[Module] = []
        with suppress(KexecError):
            found.extend(modules(self.linux))
        pieces = ((*span, module) for module in found for span in module.spans)
        return sorted(pieces, key=lambda piece: piece[0])

    def is_text(self, ip: int) -> bool:
        return any(ip in span for span in self.text)

    def module_of(self, ip: int) -> Module | None:
        at = bisect_right(self.spans, ip, key=lambda piece: piece[0]) - 1
        _, end, module = self.spans[at] if at >= 0 else (0, 0, None)
        return module if ip < end else None

    def place_of(self, ip: int, exact: bool) -> Place | None:
        """A call may be the last instruction of its function, so the byte before a return address
        is looked up (kernel/kallsyms.c: sprint_backtrace)."""
        if exact:
            return self.place(ip)
        found = self.place(ip - 1)
        return replace(found, offset=found.offset + 1) if found else None

    def place(self, ip: int) -> Place | None:
        """The symbol at an address; None outside of text."""
        if self.is_text(ip):
            return self.linux.symbols.place(ip)
        module = self.module_of(ip)
        return self.module_symbols.place(module, ip) if module else None

    def of_registers(self, registers: Registers) -> list[Frame]:
        """The backtrace from where a CPU was."""
        if registers.from_user:
            return [Frame(registers.ip, None)]
        return list(self.frames(self.started(registers)))

    def of_task(self, task: Task) -> list[Frame]:
        """The backtrace from where a task that is not running went to sleep."""
        return list(self.frames(self.asleep(task)))

    def frames(self, state: State) -> Iterator[Frame]:
        """The frames of a backtrace, innermost first."""
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

    def guesses(self, sp: int) -> Iterator[Frame]:
        """The addresses in text that are found on the stack, up to its end."""
        size = max(STACK_SIZE, self.linux.memory.page_size)
        left, end = GUESSES_MAX, (sp | size - 1) + 1
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
