"""Memory blocks, the unit in which memory is taken offline and online, and the use of their
pages."""

from __future__ import annotations

from collections.abc import Iterable

from pykexec.frozen import dataclass
from pykexec.memory.ranges import PhysRange

ONLINE, OFFLINE = "online", "offline"
MOVABLE = "Movable"
"""ZONE_MOVABLE: it contains only movable pages, and no slab, page tables, stacks or DMA buffers
(Documentation/admin-guide/mm/memory-hotplug.rst)."""


@dataclass(frozen=True, order=True, slots=True)
class MemoryBlock:
    """A block in /sys/devices/system/memory; `size` in bytes."""

    number: int
    size: int
    state: str = ONLINE
    zones: tuple[str, ...] = ()
    """valid_zones: the zone of an online block, ("none",) if it spans several; the possible zones
    of an offline one."""
    node: int | None = None
    """The NUMA node; None if unknown."""

    @property
    def range(self) -> PhysRange:
        """The physical addresses of the block."""
        return PhysRange.sized(self.number * self.size, self.size)

    @property
    def is_movable(self) -> bool:
        """Whether all of it is online in ZONE_MOVABLE."""
        return self.state == ONLINE and self.zones == (MOVABLE,)

    @property
    def zone(self) -> str:
        """The zone of an online block, "none" if it is not in a single zone."""
        return self.zones[0] if self.state == ONLINE and len(self.zones) == 1 else "none"

    @property
    def name(self) -> str:
        """The name of its directory in sysfs."""
        return f"memory{self.number}"


@dataclass(frozen=True, slots=True)
class MemoryBlocks:
    """The memory blocks of a machine in address order, at most the first BLOCKS_MAX."""

    size: int
    """Size of each block, in bytes."""
    blocks: tuple[MemoryBlock, ...]

    def touching(self, span: PhysRange) -> tuple[MemoryBlock, ...]:
        return tuple(block for block in self.blocks if block.range.overlaps(span))


def names(blocks: Iterable[MemoryBlock]) -> str:
    """The names of blocks for a message, e.g. "memory4, memory5"."""
    return ", ".join(block.name for block in blocks)


@dataclass(frozen=True, slots=True)
class PageKinds:
    """Numbers of pages of a range by kind, from their flags in /proc/kpageflags
    (Documentation/admin-guide/mm/pagemap.rst)."""

    free: int = 0
    user: int = 0
    """Anonymous or mapped."""
    cache: int = 0
    """Other pages on the LRU lists: page cache."""
    huge: int = 0
    """hugetlbfs pages."""
    other: int = 0
    """Without a distinctive flag: per-CPU lists of free pages, zsmalloc, and in other zones kernel
    allocations."""
    slab: int = 0
    page_tables: int = 0
    reserved: int = 0
    """For example, the memmap of a hot-added block that contains its own (memmap_on_memory)."""
    offline: int = 0
    """Logically offline: held by a balloon or virtio-mem."""
    poisoned: int = 0
    missing: int = 0
    """Holes without pages."""

    @property
    def unmovable(self) -> str:
        """The kinds, with their numbers, that must not be in a lent window; "" if there are
        none."""
        kinds = {
            "slab": self.slab,
            "page table": self.page_tables,
            "reserved": self.reserved,
            "offline": self.offline,
            "poisoned": self.poisoned,
            "missing": self.missing,
        }
        return ", ".join(f"{count} {kind} pages" for kind, count in kinds.items() if count)
