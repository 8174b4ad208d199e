"""Virtual addresses of an x86_64 kernel, by its own page tables (Documentation/arch/x86/x86_64/
mm.rst): four levels or five, pages of 4 KiB, 2 MiB and 1 GiB."""

from __future__ import annotations

import time

from pykexec.dump.faults import NotInDump, OutOfTime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pykexec.dump.elf_memory import ElfMemory
    from pykexec.dump.kdump_memory import KdumpMemory

START_KERNEL_MAP = 0xFFFFFFFF80000000
PRESENT, HUGE = 1, 0x80
FRAME = 0xFFFFFFFFFF000
PAGE_SHIFT = 12
KEPT = 1 << 13
"""Translations to cache, and four times fewer page tables of a page each; a full cache is
cleared."""
UNLIMITED = 1 << 62
CLOCK_EVERY = 256
"""Reads between two looks at the clock."""
READ_MAX = 64 << 20
"""Bytes per read: no structure of the kernel is larger."""


class KernelMemory:
    """Memory by virtual address. `root` is the physical address of swapper_pg_dir."""

    def __init__(
        self, physical: ElfMemory | KdumpMemory, root: int, levels: int, encrypted: int = 0
    ) -> None:
        self.physical = physical
        self.root = root
        self.shifts = (48, 39, 30, 21, 12) if levels == 5 else (39, 30, 21, 12)
        self.lowest = (1 << 64) - (1 << 56 if levels == 5 else 1 << 47)
        self.frame = FRAME & ~encrypted
        """`encrypted` is the C-bit of AMD's memory encryption (NUMBER(sme_mask))."""
        self.leaves: dict[int, tuple[int, int]] = {}
        """Page number: (physical address of the page that contains it, shift of that page)."""
        self.tables: dict[int, bytes] = {}
        self.left, self.until = UNLIMITED, 0.0

    def limit(self, reads: int, until: float) -> None:
        """Allow `reads` more reads, and none after `until` (time.process_time): further ones raise
        OutOfTime. The number of reads is what ends a damaged list, also on slow machines."""
        self.left, self.until = reads, until

    def tick(self) -> None:
        """Raises OutOfTime."""
        self.left -= 1
        if self.left < 0:
            raise OutOfTime("it takes too many reads")
        if self.left % CLOCK_EVERY or self.left > UNLIMITED // 2:
            return
        if time.process_time() > self.until:
            raise OutOfTime("it takes too long")

    def translate(self, addr: int) -> tuple[int, int]:
        """(physical address, bytes from there to the end of its page). Raises NotInDump."""
        found = self.leaves.get(addr >> PAGE_SHIFT)
        if found is None:
            found = self.walk(addr)
            if len(self.leaves) >= KEPT:
                self.leaves.clear()
            self.leaves[addr >> PAGE_SHIFT] = found
        base, shift = found
        at = addr & (1 << shift) - 1
        return base + at, (1 << shift) - at

    def walk(self, addr: int) -> tuple[int, int]:
        """The leaf entry: (physical address of its page, shift)."""
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

    def table(self, addr: int) -> bytes:
        found = self.tables.get(addr)
        if found is None:
            found = self.physical.read(addr, 4096)
            if len(self.tables) >= KEPT // 4:
                self.tables.clear()
            self.tables[addr] = found
        return found

    def read(self, addr: int, size: int) -> bytes:
        """Exactly `size` bytes. Raises NotInDump, UnreadableDump, DamagedDump, OutOfTime."""
        self.tick()
        start, there = self.translate(addr)
        if size <= there and size <= READ_MAX:
            return self.physical.read(start, size)
        if size > READ_MAX:
            raise NotInDump(f"{size:#x} bytes at {addr:#x} are more than any structure has")
        parts = []
        while size > 0:
            start, there = self.translate(addr)
            count = min(size, there)
            parts.append(self.physical.read(start, count))
            addr, size = addr + count, size - count
        return b"".join(parts)

    def u64(self, addr: int) -> int:
        return int.from_bytes(self.read(addr, 8), "little")

    def u32(self, addr: int) -> int:
        return int.from_bytes(self.read(addr, 4), "little")

    def text(self, addr: int, limit: int) -> bytes:
        """A C string, without its NUL; at most `limit` bytes, and never past the end of mapped
        memory."""
        self.tick()
        found = b""
        while len(found) < limit and b"\0" not in found:
            start, there = self.translate(addr + len(found))
            found += self.physical.read(start, min(there, limit - len(found), 64))
        return found.partition(b"\0")[0]
