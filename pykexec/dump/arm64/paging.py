"""Virtual addresses of an arm64 kernel, by its own page tables (Documentation/arch/arm64/
memory.rst; arch/arm64/include/asm/pgtable-hwdef.h): pages of 4, 16 and 64 KiB, two to five levels,
blocks at every level but the last."""

from __future__ import annotations

from pykexec.dump.faults import DamagedDump, NotInDump
from pykexec.dump.kernel_memory import KernelMemory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pykexec.dump.elf_memory import ElfMemory
    from pykexec.dump.kdump_memory import KdumpMemory
    from pykexec.dump.vmcoreinfo import VmcoreInfo

VALID, TABLE = 1, 2
"""A valid entry without TABLE is a block; in the last level each entry has both."""
PAGE_SHIFTS = {4096: 12, 16384: 14, 65536: 16}
VA_BITS_MIN, VA_BITS_MAX = 36, 52
"""Of any configuration."""
WIDE_BITS = 52
HARDWARE_BITS = 48
"""VA_BITS_MIN of asm/memory.h for a kernel of 52 bits: what it uses on a processor without the
extension; 47 with pages of 16 KiB, so that there is one level less."""
ADDRESS = (1 << 48) - 1
"""Bits of an address in an entry, without those above 48."""
HIGH_PART = 12
"""Where an entry for pages of 64 KiB has bits 48 to 51 of an address."""


class Arm64Memory(KernelMemory):
    """`root` is the physical address of swapper_pg_dir, which translates `bits` of an address.
    `wide`: entries for pages of 4 and 16 KiB have physical addresses of 52 bits (LPA2)."""

    def __init__(
        self,
        physical: ElfMemory | KdumpMemory,
        root: int,
        page_shift: int,
        bits: int,
        wide: bool = False,
    ) -> None:
        super().__init__(physical, root, 1 << page_shift)
        self.page_shift = page_shift
        self.lowest = (1 << 64) - (1 << bits)
        self.shifts = tuple(reversed(range(page_shift, bits, page_shift - 3)))
        self.top = (1 << bits - self.shifts[0]) - 1
        """Mask of an index into the first table."""
        self.wide = wide

    def walk(self, addr: int) -> tuple[int, int]:
        if not self.lowest <= addr < 1 << 64:
            raise NotInDump(f"{addr:#x} is not a kernel address")
        table, mask = self.root, self.top
        for shift in self.shifts:
            at = (addr >> shift & mask) * 8
            entry = int.from_bytes(self.table(table)[at : at + 8], "little")
            if not entry & VALID:
                break
            table, mask = self.address(entry), (1 << self.page_shift - 3) - 1
            if not entry & TABLE or shift == self.page_shift:
                return table & -(1 << shift), shift
        raise NotInDump(f"{addr:#x} is not mapped")

    def address(self, entry: int) -> int:
        """The address in an entry: with LPA2, bits 50 and 51 of it are in 8 and 9
        (__pte_to_phys)."""
        if self.page_shift == 16:
            return entry & ADDRESS & ~0xFFFF | (entry >> HIGH_PART & 0xF) << 48
        if self.wide:
            return entry & (1 << 50) - 1 & -(1 << self.page_shift) | (entry >> 8 & 3) << 50
        return entry & ADDRESS & -(1 << self.page_shift)


def kernel_memory(memory: ElfMemory | KdumpMemory, info: VmcoreInfo) -> Arm64Memory:
    """Uses swapper_pg_dir, which is in the kernel's image: kimage_voffset is the difference between
    its virtual and its physical address. Raises UnknownKernel, DamagedDump."""
    page = info.value("PAGESIZE", 10, 1 << 20)
    if page not in PAGE_SHIFTS:
        raise DamagedDump(f"VMCOREINFO: PAGESIZE={page}")
    page_shift = PAGE_SHIFTS[page]
    bits = info.number("VA_BITS")
    actual = 64 - info.number("TCR_EL1_T1SZ", 64 - bits)
    for number in (bits, actual):
        if not VA_BITS_MIN <= number <= VA_BITS_MAX:
            raise DamagedDump(f"VMCOREINFO: addresses of {number} bits")
    wide = page_shift < 16 and actual > 48
    if page_shift < 16:
        # A kernel for 52 bits has one level of tables fewer where the processor has no LPA2
        # (arch/arm64/kernel/pi/map_kernel.c:early_map_kernel). With pages of 64 KiB swapper_pg_dir
        # keeps its size, and the processor sees the end of it (offset_ttbr1).
        bits = actual
    root = info.symbol("swapper_pg_dir") - info.number("kimage_voffset") & (1 << 64) - 1
    return Arm64Memory(memory, root, page_shift, bits, wide)


def text_start(bits: str, page_size: str) -> int:
    """Where the upper half of kernel addresses begins, which has everything but the direct map
    (PAGE_END of asm/memory.h). The arguments are VA_BITS and PAGESIZE as VMCOREINFO has them; 48
    bits if they are missing."""
    number = int(bits) if bits.isascii() and bits.isdigit() and len(bits) < 3 else HARDWARE_BITS
    if number == WIDE_BITS:
        number = HARDWARE_BITS - (page_size == "16384")
    return (1 << 64) - (1 << max(VA_BITS_MIN, min(number, HARDWARE_BITS)) - 1)
