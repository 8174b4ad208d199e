"""A PC with just enough for the stub: one CPU with real page tables, some RAM, a UART, a timer and
three ways to reset. Executed by unicorn.

It adds what unicorn lacks. Unicorn never delivers an exception through the guest's IDT:
`_interrupt` does, using the gates that the stub has written. A fault without a hook is ignored
silently, so every hook is installed and `run` returns how the run ended.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import unicorn
from unicorn import (
    UC_ARCH_X86,
    UC_HOOK_CODE,
    UC_HOOK_INSN,
    UC_HOOK_INTR,
    UC_HOOK_MEM_INVALID,
    UC_HOOK_MEM_WRITE,
    UC_MODE_64,
)
from unicorn import x86_const as x86

Uc: Any = vars(unicorn)["Uc"]
"""No type checker accepts unicorn's own types, which are for Python 2 and 3 at once."""

MIB = 1 << 20
LARGE_PAGE = 2 * MIB

RAM = ((0, 16 * MIB), (0x123400000, 4 * MIB))
"""Address and size in bytes of the memory in the identity map, below and above 4 GiB."""
PAGE_TABLES = 0x200000

STUB = 0x100000
TABLES = 0x110000
SEAL = 0x118000
BOOT_PARAMS = 0x90000
ENTRY = 0x300200
NOT_MAPPED = 0x40000000

COM1 = 0x3F8
PCI_ADDRESS, PCI_DATA = 0xCF8, 0xCFC
OUT_2 = 0x20
"""Port 0x61: the output of the timer's channel 2."""

SECOND = 1_000_000  # microseconds, as unicorn counts
"""Microseconds."""


class End(Enum):
    """How a run ended."""

    STARTED = auto()
    """At the kernel's entry."""
    HALTED = auto()
    RESET_CF9 = auto()
    RESET_KEYBOARD = auto()
    TRIPLE_FAULT = auto()
    STUCK = auto()


@dataclass
class Pc:
    """The machine. The fields control how its devices behave; change them before `run`."""

    uart: int = COM1
    """First port of the only UART."""
    uart_status: int | None = None
    """Constant value of the line status register; None for a working UART."""
    pit_reads: int | None = 3
    """Reads of port 0x61 until a count has ended; None: the timer never counts."""
    pit_port: int | None = None
    """Constant value of port 0x61; None for a working timer."""
    keyboard_status: int = 0
    cf9_works: bool = True
    keyboard_works: bool = True
    pci: dict[int, bytearray] | None = None
    """Configuration space of each function (bus << 8 | device << 3 | function), of 64 bytes; None
    if the ports must not be used."""

    serial: bytearray = field(default_factory=bytearray)
    writes: list[tuple[int, int]] = field(default_factory=list)
    """Port writes except those to the UART: (port, value)."""
    reads: int = 0
    """Port reads."""
    faults: list[int] = field(default_factory=list)
    """Vectors of the exceptions that were delivered."""
    own_writes: list[int] = field(default_factory=list)
    """RIP of stores to the stub's code page."""

    def __post_init__(self) -> None:
        self.uc = Uc(UC_ARCH_X86, UC_MODE_64)
        self.uc.ctl_set_cpu_model(x86.UC_CPU_X86_HASWELL)
        for addr, size in RAM:
            self.uc.mem_map(addr, size)
        self._end: End | None = None
        self._gate = 0
        self._left: int | None = None
        self._at_character: tuple[int, Callable[[], int]] | None = None
        self._looked: list[int] = []
        self._pci_address = 0
        self._page_tables()
        self._processor()
        self._hooks()

    # -- memory

    def write(self, addr: int, contents: bytes) -> None:
        self.uc.mem_write(addr, contents)

    def read(self, addr: int, size: int) -> bytes:
        return bytes(self.uc.mem_read(addr, size))

    def flip(self, addr: int) -> None:
        """Invert one bit of the byte there."""
        self.write(addr, bytes([self.read(addr, 1)[0] ^ 0x10]))

    # -- running

    def run(self, stub: int = STUB, entry: int = ENTRY, seconds: int = 60) -> End:
        """Enter at `stub`; stop at `entry` or when the machine stops."""
        self.uc.hook_add(UC_HOOK_MEM_WRITE, self._own_write, begin=stub, end=stub + 4095)
        self.uc.emu_start(stub, entry, timeout=seconds * SECOND)
        if self._end is not None:
            return self._end
        rip = self.register("RIP")
        if rip == entry:
            return End.STARTED
        if self.read(rip - 1, 1) == b"\xf4" and not self.register("EFLAGS") & 0x200:
            return End.HALTED
        return End.STUCK

    def register(self, name: str) -> int:
        value = self.uc.reg_read(getattr(x86, f"UC_X86_REG_{name}"))
        assert isinstance(value, int)
        return value

    def interrupt_at(self, addr: int, vector: int, times: int = 1) -> None:
        """Deliver this vector the first `times` times before the instruction there runs."""
        left = [times]

        def due(uc: Any, rip: int, size: int, _: object) -> None:
            if left[0]:
                left[0] -= 1
                self._deliver(vector, rip)

        self.uc.hook_add(UC_HOOK_CODE, due, begin=addr, end=addr)

    @property
    def text(self) -> str:
        return self.serial.decode("ascii")

    def passed(self, addr: int) -> list[int]:
        """A list to which the address is appended each time the instruction there runs."""
        seen: list[int] = []
        self.uc.hook_add(
            UC_HOOK_CODE, lambda uc, rip, size, _: seen.append(rip), begin=addr, end=addr
        )
        return seen

    def at_each(self, character: bytes, look: Callable[[], int]) -> list[int]:
        """A list that gets what `look` answers each time that this is written to the UART."""
        self._at_character = (character[0], look)
        return self._looked

    @property
    def rdtsc(self) -> int:
        """Where the stub reads the time stamp counter."""
        return STUB + self.read(STUB, 4096).index(b"\x0f\x31")

    def tsc(self, clock: Callable[[int], int]) -> list[int]:
        """Let the time stamp counter read clock(0), clock(1), ... The list has one number: how
        often it was read."""
        looks = [0]

        def read(uc: Any, rip: int, size: int, _: object) -> None:
            value = clock(looks[0])
            looks[0] += 1
            uc.reg_write(x86.UC_X86_REG_RAX, value & 0xFFFF_FFFF)
            uc.reg_write(x86.UC_X86_REG_RDX, value >> 32)
            uc.reg_write(x86.UC_X86_REG_RIP, rip + size)

        self.uc.hook_add(UC_HOOK_CODE, read, begin=self.rdtsc, end=self.rdtsc)
        return looks

    # -- the processor at the entry of a new image (reference: relocate_kernel_64.S), made worse

    def _page_tables(self) -> None:
        """Four levels, 2 MiB pages, present only where there is RAM."""
        pml4, pdpt, directories = PAGE_TABLES, PAGE_TABLES + 4096, PAGE_TABLES + 8192
        self.write(pml4, struct.pack("<Q", pdpt | 3))
        gigabytes: dict[int, int] = {}
        for start, size in RAM:
            for addr in range(start, start + size, LARGE_PAGE):
                directory = gigabytes.setdefault(addr >> 30, directories + len(gigabytes) * 4096)
                self.write(pdpt + 8 * (addr >> 30), struct.pack("<Q", directory | 3))
                slot = directory + 8 * (addr // LARGE_PAGE % 512)
                self.write(slot, struct.pack("<Q", addr | 0x83))

    def _processor(self) -> None:
        set_register = self.uc.reg_write
        set_register(x86.UC_X86_REG_CR3, PAGE_TABLES)
        set_register(x86.UC_X86_REG_CR4, 0x20)
        set_register(x86.UC_X86_REG_MSR, (0xC0000080, 0xD01))
        set_register(x86.UC_X86_REG_CR0, 0x80000033)
        for number, name in enumerate(GENERAL):
            set_register(getattr(x86, f"UC_X86_REG_{name}"), 0xBAD0_0000_0000_0000 + number)
        set_register(x86.UC_X86_REG_RSP, 0xDEAD_0000_0000_0008)  # not even canonical
        set_register(x86.UC_X86_REG_GDTR, (0, 0, 0, 0))
        set_register(x86.UC_X86_REG_IDTR, (0, 0, 0, 0))
        set_register(x86.UC_X86_REG_EFLAGS, 0x602)  # DF and IF set

    # -- exceptions

    def _interrupt(self, uc: Any, vector: int, _: object) -> None:
        self.faults.append(vector)
        if len(self.faults) > 8:
            self._stop(End.STUCK)
        else:
            self._deliver(vector, self.register("RIP"))

    def _deliver(self, vector: int, rip: int) -> None:
        """As the processor does: Intel SDM volume 3, 6.14, without a change of stack."""
        _, base, limit, _ = self.uc.reg_read(x86.UC_X86_REG_IDTR)
        if limit < 16 * vector + 15:
            self._stop(End.TRIPLE_FAULT)
            return
        low, selector, attributes, middle, high, zero = struct.unpack(
            "<HHHHII", self.read(base + 16 * vector, 16)
        )
        assert (selector, attributes, zero) == (0x10, 0x8E00, 0), f"gate {vector}"
        old = self.register("RSP")
        frame = [rip, self.register("CS"), self.register("EFLAGS"), old, self.register("SS")]
        if vector in PUSH_A_CODE:
            frame.insert(0, 0xC0DE)
        rsp = (old & ~15) - 8 * len(frame)
        self.write(rsp, struct.pack(f"<{len(frame)}Q", *frame))
        self.uc.reg_write(x86.UC_X86_REG_RSP, rsp)
        self.uc.reg_write(x86.UC_X86_REG_RIP, high << 32 | middle << 16 | low)

    def _invalid(self, uc: Any, access: int, addr: int, size: int, value: int, _: object) -> bool:
        self._stop(End.STUCK)
        return False

    def _own_write(self, uc: Any, access: int, addr: int, size: int, value: int, _: object) -> None:
        self.own_writes.append(self.register("RIP"))

    def _stop(self, end: End) -> None:
        self._end = end
        self.uc.emu_stop()

    # -- devices

    def _hooks(self) -> None:
        self.uc.hook_add(UC_HOOK_INTR, self._interrupt)
        self.uc.hook_add(UC_HOOK_MEM_INVALID, self._invalid)
        self.uc.hook_add(UC_HOOK_INSN, self._in, aux1=x86.UC_X86_INS_IN)
        self.uc.hook_add(UC_HOOK_INSN, self._out, aux1=x86.UC_X86_INS_OUT)

    def _in(self, uc: Any, port: int, size: int, _: object) -> int:
        self.reads += 1
        if port == self.uart + 5:
            return 0x60 if self.uart_status is None else self.uart_status
        if port == 0x61:
            return self._timer() if self.pit_port is None else self.pit_port
        if port == 0x64:
            return self.keyboard_status
        if port == PCI_DATA and self.pci is not None:
            return self._pci_read(self.pci)
        raise AssertionError(f"read of port {port:#x}")

    def _pci_read(self, functions: dict[int, bytearray]) -> int:
        assert self._pci_address >> 24 == 0x80, "not an address of mechanism 1"
        found = functions.get(self._pci_address >> 8 & 0xFFFF)
        at = self._pci_address & 0xFC
        return int.from_bytes(found[at : at + 4], "little") if found else 0xFFFF_FFFF

    def _timer(self) -> int:
        if self._left is None or not self._gate & 1:
            return self._gate
        self._left -= 1
        return self._gate | (OUT_2 if self._left < 0 else 0)

    def _out(self, uc: Any, port: int, size: int, value: int, _: object) -> None:
        if port == self.uart:
            self.serial.append(value)
            if self._at_character and value == self._at_character[0]:
                self._looked.append(self._at_character[1]())
            return
        if self.pci is not None and port in (PCI_ADDRESS, PCI_DATA):
            self._pci_write(self.pci, port, size, value)
            return
        self.writes.append((port, value))
        if port == 0x61:
            self._gate = value & 3
        elif port == 0x43:
            self._left = None
        elif port == 0x42 and self.writes[-2][0] == 0x42:
            self._left = self.pit_reads
        elif (port, value) == (0xCF9, 6) and self.cf9_works:
            self._stop(End.RESET_CF9)
        elif (port, value) == (0x64, 0xFE) and self.keyboard_works:
            self._stop(End.RESET_KEYBOARD)

    def _pci_write(self, functions: dict[int, bytearray], port: int, size: int, value: int) -> None:
        if port == PCI_ADDRESS:
            self._pci_address = value
            return
        at = self._pci_address & 0xFC
        functions[self._pci_address >> 8 & 0xFFFF][at : at + size] = value.to_bytes(size, "little")


GENERAL = ("RAX", "RBX", "RCX", "RDX", "RSI", "RDI", "RBP", *(f"R{n}" for n in range(8, 16)))
"""The general registers except RSP."""

PUSH_A_CODE = (8, 10, 11, 12, 13, 14, 17, 21, 29, 30)
"""Vectors that push an error code (Intel SDM volume 3, table 6-1; AMD's 29 and 30)."""
