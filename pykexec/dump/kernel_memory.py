"""The crashed kernel's memory by virtual address. Each architecture has its own page tables."""

from __future__ import annotations

import time

from pykexec.dump.faults import NotInDump, OutOfTime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pykexec.dump.elf_memory import ElfMemory
    from pykexec.dump.kdump_memory import KdumpMemory

SMALLEST_SHIFT = 12
KEPT = 1 << 13
"""Translations to cache, and as many KiB of page tables; a full cache is cleared."""
UNLIMITED = 1 << 62
CLOCK_EVERY = 256
"""Reads between two looks at the clock."""
READ_MAX = 16 << 20
"""Bytes per read: the tables of symbols and types have less."""
PAGE_COST_SHIFT = 12
"""Each 4 KiB of a read cost as much as a read."""


class KernelMemory:
    """A subclass has the page tables. `root` is the physical address of the first one, `page_size`
    that of the kernel in bytes."""

    def __init__(self, physical: ElfMemory | KdumpMemory, root: int, page_size: int) -> None:
        self.physical, self.root, self.page_size = physical, root, page_size
        self.leaves: dict[int, tuple[int, int]] = {}
        """Address in units of 4 KiB: (physical address of the page or block that contains it, its
        shift)."""
        self.tables: dict[int, bytes] = {}
        self.tables_kept = KEPT * 1024 // page_size
        self.left, self.until = UNLIMITED, 0.0
        self.next_look = UNLIMITED
        """The clock is looked at when `left` falls below this."""
        self.work = 0
        """What `physical.work` was at the last read."""

    def walk(self, addr: int) -> tuple[int, int]:
        """(physical address of the page or block that contains an address, its shift). Raises
        NotInDump."""
        raise NotImplementedError

    def limit(self, reads: int, until: float) -> None:
        """Allow `reads` more reads, and none after `until` (time.process_time): further ones raise
        OutOfTime. The number of reads is what ends a damaged list, also on slow machines. Large
        reads, tables and pages that have to be unpacked count several times."""
        self.left, self.until = reads, until
        self.next_look, self.work = reads - CLOCK_EVERY, self.physical.work

    def tick(self, cost: int = 1) -> None:
        """Raises OutOfTime."""
        work = self.physical.work
        self.left -= cost + work - self.work
        self.work = work
        if self.left < 0:
            raise OutOfTime("it takes too many reads")
        if self.left < self.next_look < UNLIMITED:
            self.next_look = self.left - CLOCK_EVERY
            if time.process_time() > self.until:
                raise OutOfTime("it takes too long")

    def translate(self, addr: int) -> tuple[int, int]:
        """(physical address, bytes from there to the end of its page). Raises NotInDump."""
        found = self.leaves.get(addr >> SMALLEST_SHIFT)
        if found is None:
            found = self.walk(addr)
            if len(self.leaves) >= KEPT:
                self.leaves.clear()
            self.leaves[addr >> SMALLEST_SHIFT] = found
        base, shift = found
        at = addr & (1 << shift) - 1
        return base + at, (1 << shift) - at

    def table(self, addr: int) -> bytes:
        """One page of a page table, by physical address."""
        found = self.tables.get(addr)
        if found is None:
            self.tick()
            found = self.physical.read(addr, self.page_size)
            if len(self.tables) >= self.tables_kept:
                self.tables.clear()
            self.tables[addr] = found
        return found

    def read(self, addr: int, size: int) -> bytes:
        """Exactly `size` bytes. Raises NotInDump, UnreadableDump, DamagedDump, OutOfTime."""
        if size > READ_MAX:
            raise NotInDump(f"{size:#x} bytes at {addr:#x} are more than any structure has")
        self.tick(1 + (size >> PAGE_COST_SHIFT))
        start, there = self.translate(addr)
        if size <= there:
            return self.physical.read(start, size)
        parts = []
        while size > 0:
            start, there = self.translate(addr)
            count = min(size, there)
            parts.append(self.physical.read(start, count))
            addr, size = addr + count, size - count
        return b"".join(parts)

    def read_or_zeros(self, addr: int, size: int) -> bytes:
        """The same, with zeros for a piece that is not mapped, or not in the dump."""
        try:
            return self.read(addr, size)
        except NotInDump:
            return bytes(size)

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
