"""Virtual addresses of an x86_64 kernel, by its own page tables (Documentation/arch/x86/x86_64/
mm.rst): four levels or five, pages of 4 KiB, 2 MiB and 1 GiB."""

from __future__ import annotations

from pykexec.dump.faults import NotInDump
from pykexec.dump.kernel_memory import KernelMemory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pykexec.dump.elf_memory import ElfMemory
    from pykexec.dump.kdump_memory import KdumpMemory
    from pykexec.dump.vmcoreinfo import VmcoreInfo

START_KERNEL_MAP = 0xFFFFFFFF80000000
PRESENT, HUGE = 1, 0x80
FRAME = 0xFFFFFFFFFF000
PAGE_SHIFT = 12


class X86Memory(KernelMemory):
    """`root` is the physical address of swapper_pg_dir; `encrypted` is the C-bit of AMD's memory
    encryption (NUMBER(sme_mask))."""

    def __init__(
        self, physical: ElfMemory | KdumpMemory, root: int, levels: int, encrypted: int = 0
    ) -> None:
        super().__init__(physical, root, 1 << PAGE_SHIFT)
        self.shifts = (48, 39, 30, 21, 12) if levels == 5 else (39, 30, 21, 12)
        self.lowest = (1 << 64) - (1 << 56 if levels == 5 else 1 << 47)
        self.frame = FRAME & ~encrypted

    def walk(self, addr: int) -> tuple[int, int]:
        if not self.lowest <= addr < 1 << 64:
            raise NotInDump(f"{addr:#x} is not a kernel address")
        table = self.root
        for shift in self.shifts:
            at = (addr >> shift & 511) * 8
            entry = int.from_bytes(self.table(table)[at : at + 8], "little")
            if not entry & PRESENT:
                raise NotInDump(f"{addr:#x} is not mapped")
            table = entry & self.frame
            if shift == PAGE_SHIFT or (entry & HUGE and shift in (21, 30)):
                return table & -(1 << shift), shift
        raise NotInDump(f"{addr:#x} is not mapped")


def kernel_memory(memory: ElfMemory | KdumpMemory, info: VmcoreInfo) -> X86Memory:
    """Uses swapper_pg_dir, which is in the kernel's image at phys_base. Raises UnknownKernel,
    DamagedDump."""
    root = info.symbol("swapper_pg_dir") - START_KERNEL_MAP + info.number("phys_base", 0)
    levels = 5 if info.number("pgtable_l5_enabled", 0) else 4
    return X86Memory(memory, root & ~0xFFF, levels, info.number("sme_mask", 0))
