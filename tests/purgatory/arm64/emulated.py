"""An arm64 machine with just enough for the stub: one CPU at EL1 with its MMU off, some RAM, a UART
and PSCI. Executed by unicorn, which cannot run with page tables here: that part is tested in QEMU.

It adds what unicorn lacks: an exception goes to the vectors that the stub has set, and the counter
and the ID registers have the values of a test.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import unicorn
from unicorn import UC_ARCH_ARM64, UC_HOOK_CODE, UC_HOOK_INTR, UC_HOOK_MEM_WRITE, UC_MODE_ARM
from unicorn import arm64_const as arm64

from pykexec.purgatory.arm64.stub import STUB_SIZE, UartKind

Uc: Any = vars(unicorn)["Uc"]
UcError: Any = vars(unicorn)["UcError"]

MIB = 1 << 20
RAM = ((0x40000000, 16 * MIB), (0x1_2340_0000, 4 * MIB))
"""Address and size in bytes."""

STUB = 0x40100000
TABLES = 0x40110000
SEAL = 0x40118000
DTB = 0x40200000
ENTRY = 0x40300000
NOT_MAPPED = 0x80000000
UART = 0x09000000

SECOND = 1_000_000
"""As unicorn counts: microseconds."""
HVC, SMC = 0xD4000002, 0xD4000003
"""The instructions hvc #0 and smc #0."""
ERET = 0xD69F03E0
PSCI_SYSTEM_RESET = 0x84000009
DATA_ABORT = 0x96000010
"""ESR of a synchronous external abort at the same level."""
SYNCHRONOUS = 4
"""The vector of an exception at the current level with its own stack."""

MRS = {
    "cntvct_el0": 0xD53BE040,
    "cntfrq_el0": 0xD53BE000,
    "id_aa64isar0_el1": 0xD5380600,
    "id_aa64pfr1_el1": 0xD5380420,
}
"""The instructions that read these registers into X0, or another register in the lowest 5 bits."""


DC_CIVAC = 0xD50B7E20
"""dc civac, x0."""
EXCHANGE_TURN = 0xA9401404
"""ldp x4, x5, [x0]: the first instruction of a turn of the exchange."""
SHA256_START = 0xD346FC21
"""lsr x1, x1, #6: the number of whole blocks."""
POLL_LIMITS = (0x52A00207, 0x52A00022, 0x52A20003, 0x52A08003)
"""mov w7, #0x100000 (UART), mov w2, #0x10000 and w3, #0x10000000 and w3, #0x4000000 (counter)."""


@dataclass
class Cleaned:
    """The cache lines that were cleaned."""

    at_first: set[int] = field(default_factory=set)
    """Before anything but the tables was read."""
    at_last: set[int] = field(default_factory=set)
    """After the last word was exchanged."""


class End(Enum):
    """How a run ended."""

    STARTED = auto()
    """At the kernel's entry."""
    HALTED = auto()
    RESET_HVC = auto()
    RESET_SMC = auto()
    STUCK = auto()


@dataclass
class Board:
    """The machine. The fields control how its devices behave; change them before `run`."""

    uart: int = UART
    kind: UartKind = UartKind.PL011
    shift: int = 0
    width: int = 4
    uart_status: int | None = None
    """Constant value of the status register; None for a working UART."""
    uart_missing: bool = False
    """Every access to the UART is an external abort."""
    polls: int | None = None
    """Replaces the limits of polls in the stub, which take a while here."""
    psci_works: bool = True
    psci_missing: bool = False
    """A call is an undefined instruction."""
    vector: int = SYNCHRONOUS
    """The vector of a fault."""
    counter: Callable[[int], int] = lambda look: look * 20_000_000
    """The counter at each look."""
    frequency: int = 62_500_000
    sha2: int = 1
    sme: int = 0

    serial: bytearray = field(default_factory=bytearray)
    reads: int = 0
    """Reads of the UART's registers."""
    wrong_accesses: list[tuple[int, int]] = field(default_factory=list)
    """(offset, width) of accesses to the UART that its driver would not make."""
    calls: list[int] = field(default_factory=list)
    """Functions of PSCI that were called."""
    looks: int = 0
    """Reads of the counter."""
    faults: int = 0
    own_writes: list[int] = field(default_factory=list)
    """PC of stores to the stub's code."""
    at_character: tuple[bytes, Callable[[], None]] | None = None
    """Called each time that this character is written to the UART."""

    def __post_init__(self) -> None:
        self.uc = Uc(UC_ARCH_ARM64, UC_MODE_ARM)
        for addr, size in RAM:
            self.uc.mem_map(addr, size)
        self.uc.mmio_map(self.uart & ~0xFFF, 0x1000, self._read, None, self._write, None)
        self._end: End | None = None
        self._fault = False
        for number in range(31):
            self.uc.reg_write(getattr(arm64, f"UC_ARM64_REG_X{number}"), 0xBAD0 << 48 | number)

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
        self.uc.hook_add(UC_HOOK_INTR, self._interrupt)
        self.uc.hook_add(UC_HOOK_MEM_WRITE, self._own_write, begin=stub, end=stub + STUB_SIZE - 1)
        self._hook_instructions(stub)
        at = stub
        while self._end is None and self.faults < 8:
            try:
                self.uc.emu_start(at, entry, timeout=seconds * SECOND)
            except UcError:
                at = self._vector()
                continue
            at = self.register("PC")
            if self._fault:
                self._fault = False
                at = self._vector()
                continue
            break
        if self._end is not None:
            return self._end
        if at == entry:
            return End.STARTED
        return End.HALTED if self.read(at - 4, 4) == b"\x7f\x20\x03\xd5" else End.STUCK  # wfi

    def register(self, name: str) -> int:
        value = self.uc.reg_read(getattr(arm64, f"UC_ARM64_REG_{name}"))
        assert isinstance(value, int)
        return value

    def passed(self, addr: int) -> list[int]:
        """A list to which the address is appended each time the instruction there runs."""
        seen: list[int] = []
        self.uc.hook_add(
            UC_HOOK_CODE, lambda uc, pc, size, _: seen.append(pc), begin=addr, end=addr
        )
        return seen

    def cleaned(self) -> Cleaned:
        """What is cleaned in the run that follows."""
        code, cleaned = self.read(STUB, STUB_SIZE), Cleaned()
        at = STUB + code.index(struct.pack("<I", DC_CIVAC))
        blocks: list[int] = []

        def clean(uc: Any, pc: int, size: int, _: object) -> None:
            (cleaned.at_first if len(blocks) == 1 else cleaned.at_last).add(self.register("X0"))

        def exchange(uc: Any, pc: int, size: int, _: object) -> None:
            cleaned.at_last.clear()

        self.sha256_calls(blocks)

        self.uc.hook_add(UC_HOOK_CODE, clean, begin=at, end=at)
        turn = STUB + code.index(struct.pack("<I", EXCHANGE_TURN))
        self.uc.hook_add(UC_HOOK_CODE, exchange, begin=turn, end=turn)
        return cleaned

    def sha256_calls(self, seen: list[int]) -> None:
        """Append to the list for each digest that is made."""
        code = self.read(STUB, STUB_SIZE)
        at = STUB + code.index(struct.pack("<I", SHA256_START))
        self.uc.hook_add(UC_HOOK_CODE, lambda uc, pc, size, _: seen.append(pc), begin=at, end=at)

    @property
    def text(self) -> str:
        return self.serial.decode("ascii")

    # -- exceptions

    def _vector(self) -> int:
        """Enter the vector as the processor does; its address."""
        self.faults += 1
        set_register = self.uc.reg_write
        set_register(arm64.UC_ARM64_REG_ELR_EL1, self.register("PC"))
        set_register(arm64.UC_ARM64_REG_ESR_EL1, DATA_ABORT)
        set_register(arm64.UC_ARM64_REG_FAR_EL1, NOT_MAPPED)
        return self.register("VBAR_EL1") + 128 * self.vector

    def _interrupt(self, uc: Any, number: int, _: object) -> None:
        self._stop(End.STUCK)

    def _return(self, addr: int) -> None:
        """The eret there returns from the vector; unicorn has no saved state of the processor."""

        def eret(uc: Any, pc: int, size: int, _: object) -> None:
            uc.reg_write(arm64.UC_ARM64_REG_PC, self.register("ELR_EL1"))

        self.uc.hook_add(UC_HOOK_CODE, eret, begin=addr, end=addr)

    def _psci(self, addr: int, reset: End) -> None:
        """The call at this address resets the machine, or returns."""

        def call(uc: Any, pc: int, size: int, _: object) -> None:
            self.calls.append(self.register("X0"))
            if self.psci_missing:
                self._abort()
                return
            if self.psci_works and self.register("X0") == PSCI_SYSTEM_RESET:
                self._stop(reset)
            uc.reg_write(arm64.UC_ARM64_REG_PC, pc + 4)

        self.uc.hook_add(UC_HOOK_CODE, call, begin=addr, end=addr)

    def _own_write(self, uc: Any, access: int, addr: int, size: int, value: int, _: object) -> None:
        self.own_writes.append(self.register("PC"))

    def _stop(self, end: End) -> None:
        self._end = end
        self.uc.emu_stop()

    # -- registers and calls

    def _hook_instructions(self, stub: int) -> None:
        values = {
            "cntvct_el0": self._tick,
            "cntfrq_el0": lambda: self.frequency,
            "id_aa64isar0_el1": lambda: self.sha2 << 12,
            "id_aa64pfr1_el1": lambda: self.sme << 24,
        }
        code = self.read(stub, STUB_SIZE)
        for at in range(0, len(code), 4):
            word = int.from_bytes(code[at : at + 4], "little")
            for name, instruction in MRS.items():
                if word & ~31 == instruction:
                    self._emulate(stub + at, word & 31, values[name])
            if word in POLL_LIMITS and self.polls is not None:
                self.write(stub + at, struct.pack("<I", 0x52800000 | self.polls << 5 | word & 31))
            if word == ERET:
                self._return(stub + at)
            if word in (HVC, SMC):
                self._psci(stub + at, End.RESET_HVC if word == HVC else End.RESET_SMC)

    def _emulate(self, addr: int, number: int, value: Callable[[], int]) -> None:
        name = getattr(arm64, f"UC_ARM64_REG_X{number}")

        def read(uc: Any, pc: int, size: int, _: object) -> None:
            uc.reg_write(name, value())
            uc.reg_write(arm64.UC_ARM64_REG_PC, pc + 4)

        self.uc.hook_add(UC_HOOK_CODE, read, begin=addr, end=addr)

    def _tick(self) -> int:
        self.looks += 1
        return self.counter(self.looks)

    # -- the UART

    @property
    def _status_at(self) -> int:
        return 0x18 if self.kind is UartKind.PL011 else 5 << self.shift

    def _read(self, uc: Any, offset: int, size: int, _: object) -> int:
        self.reads += 1
        if self.uart_missing:
            return self._abort()
        if (offset, size) != (self.uart % 0x1000 + self._status_at, self.width):
            self.wrong_accesses.append((offset, size))
        if self.uart_status is not None:
            return self.uart_status
        return 0 if self.kind is UartKind.PL011 else 0x60

    def _write(self, uc: Any, offset: int, size: int, value: int, _: object) -> None:
        if (offset, size) != (self.uart % 0x1000, self.width):
            self.wrong_accesses.append((offset, size))
        self.serial.append(value & 0xFF)
        if self.at_character and value == self.at_character[0][0]:
            self.at_character[1]()

    def _abort(self) -> int:
        self._fault = True
        self.uc.emu_stop()
        return 0
