"""The same small kernel for arm64: frame records instead of ORC, and with `names` "text" kallsyms
has its functions alone, as in Debian's kernel."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

from pykexec.crash.notes import CORE, Note
from tests.dump.btf import Btf
from tests.dump.builders import EM_AARCH64, TEXT
from tests.dump.kernel import FUNCTIONS, MODULE_TEXT, PHYS_BASE, SIZE, Kernel

CODE = {
    "get_taint": (0x800, "tainted_mask"),
    "kexec_crash_loaded": (0x840, "kexec_crash_image"),
    "crash_get_memory_size": (0x880, "crashk_res"),
    "print_modules": (0x8C0, "modules"),
    "__switch_to": (0x900, "__entry_task"),
}
"""Function: its place in the text, and the data that it uses."""
EXPORTED = (
    "init_task", "nr_cpu_ids", "__per_cpu_offset", "_totalram_pages", "vm_zone_stat",
    "vm_node_stat",
)  # fmt: skip
FRAME_OFFSET = 34 * 8
"""Of the frame record in the pt_regs that is built here."""
USER, KERNEL = 0x0, 0x5
"""PSR_MODE_EL0t, PSR_MODE_EL1h."""


@dataclass
class ArmKernel(Kernel):
    """`meta`: the entry code gives its frame records a type, as since 6.13. `signature`: bits that
    pointer authentication leaves in return addresses, cleared here as a signature may do.
    `returns_to`: x30 of the CPU that panicked."""

    current_task: ClassVar[str] = "__entry_task"
    machine: int = EM_AARCH64
    names: Literal["all", "text"] = "text"
    meta: bool = False
    signature: int = 0
    returns_to: int = 0

    def __post_init__(self) -> None:
        self.symbols |= {name: TEXT + at for name, (at, _) in CODE.items()}
        self.symbols["_sinittext"] = TEXT + SIZE - PHYS_BASE - 0x1000
        self.symbols["_einittext"] = TEXT + SIZE - PHYS_BASE
        super().__post_init__()
        self.memory.info["NUMBER(KERNELPACMASK)"] = f"{self.signature:#x}"
        self.add_code()

    @property
    def named(self) -> dict[str, int]:
        if self.names == "all":
            return self.symbols
        kept = {*FUNCTIONS, *CODE, "_sinittext", "_einittext"}
        return {name: addr for name, addr in self.symbols.items() if name in kept}

    def thread_type(self, btf: Btf, u64: int) -> int:
        context = btf.struct("cpu_context", 24, [("fp", 0, u64), ("sp", 8, u64), ("pc", 16, u64)])
        frame = btf.struct("frame_record", 16, [("fp", 0, u64), ("lr", 8, u64)])
        btf.struct("pt_regs", FRAME_OFFSET + 24, [("stackframe", FRAME_OFFSET, frame)])
        if self.meta:
            btf.struct("frame_record_meta", 24, [("record", 0, frame), ("type", 16, u64)])
        return btf.struct("thread_struct", 24, [("cpu_context", 0, context)])

    def thread_of(self, calls: tuple[int, ...]) -> bytes:
        if not calls:
            return bytes(24)
        sp = self.frames([TEXT + call for call in calls[1:]])
        return struct.pack("<QQQ", sp, sp, self.signed(TEXT + calls[0]))

    def signed(self, addr: int) -> int:
        return addr & ~self.signature

    def frames(self, callers: list[int], last: int = 0) -> int:
        """Frame records that return to each of these, and then lead to `last`, or end with zeros
        and the type for that. Returns the address of the first one."""
        size = 32
        start = self.put(bytes(size * (len(callers) + 1)), align=16)
        for number, caller in enumerate(callers):
            at = start + number * size
            after = last if last and number == len(callers) - 1 else at + size
            self.poke(at, struct.pack("<QQQ", after, self.signed(caller), 0xAAAA))
        self.poke(start + size * len(callers), struct.pack("<QQQ", 0, 0, 1))
        return start

    def add_orc(self) -> None:
        """Add the table of exported symbols; arm64 has no ORC."""
        texts = {name: self.put(b"\0" + name.encode() + b"\0") + 1 for name in EXPORTED}
        self.exports = self.put(bytes(12 * len(EXPORTED)), align=4)
        self.texts = texts

    def add_code(self) -> None:
        for number, (name, text) in enumerate(self.texts.items()):
            at = self.exports + 12 * number
            values = (self.symbols[name] - at, text - at - 4, 0)
            self.poke(at, struct.pack("<3i", *values))
        for function, (at, data) in CODE.items():
            code = use(TEXT + at, self.symbols[data], function)
            self.poke(TEXT + at, struct.pack(f"<{len(code)}I", *code))

    @cached_property
    def notes(self) -> bytes:
        """The notes, as in the other kernel: CPU 0 in user mode, CPU 1 in vpanic, panic, a module,
        sys_wait."""
        return prstatus(0, 0x401000, 0x7FFF0000, 0, USER) + prstatus(
            1,
            TEXT + self.panicked_at,
            self.stack_bp,
            self.stack_bp,
            KERNEL,
            self.signed(self.returns_to),
        )

    def add_counters(self) -> None:
        super().add_counters()
        outer = self.frames([TEXT + 0x610])
        mode = USER if self.interrupted_cs == 0x33 else KERNEL
        registers = pt_regs(TEXT + 0x505, outer, outer, mode)
        if self.meta:
            frame = struct.pack("<QQQ", 0, 0, 2)
        else:
            frame = struct.pack("<QQQ", outer, TEXT + 0x505, 0)
        saved = self.put(registers + frame, align=16)
        callers = [TEXT + 0x310, TEXT + MODULE_TEXT + 0x110, TEXT + 0x710]
        self.stack_bp = self.frames(callers, last=saved + FRAME_OFFSET)


def pt_regs(pc: int, sp: int, fp: int, mode: int, link: int = 0) -> bytes:
    """x0 to x30, sp, pc and pstate."""
    regs = [number * 0x101 for number in range(29)]
    return struct.pack("<34Q", *regs, fp, link, sp, pc, mode)


def prstatus(pid: int, pc: int, sp: int, fp: int, mode: int, link: int = 0) -> bytes:
    """One note with these registers."""
    desc = struct.pack("<32xI76x", pid) + pt_regs(pc, sp, fp, mode, link)
    return Note(CORE, 1, desc.ljust(392, b"\0")).encoded


def use(place: int, data: int, function: str) -> list[int]:
    """Instructions that use data, as a compiler may: through its page, a neighbour, or a pair."""
    pages = (data >> 12) - (place + 4 >> 12) & (1 << 21) - 1
    low = data & 0xFFF
    adrp = 0x90000000 | (pages & 3) << 29 | pages >> 2 << 5 | 3
    nop = 0xD503201F
    if function == "crash_get_memory_size":  # add x0, x3, #low-64; ldp x4, x1, [x0, #64]
        return [nop, adrp, 0x91000060 | (low - 64) << 10, 0xA9400404 | 8 << 15]
    if function == "print_modules":  # add x4, x3, #low-16; ldr x19, [x4, #16]!
        return [nop, adrp, 0x91000064 | (low - 16) << 10, 0xF8400C93 | 16 << 12]
    if function == "__switch_to":  # add x4, x3, #low; str x1, [x4, x9]
        return [nop, adrp, 0x91000064 | low << 10, 0xF8296881]
    return [nop, adrp, 0xF9400060 | low >> 3 << 10]  # ldr x0, [x3, #low]
