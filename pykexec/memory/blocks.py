"""Memory blocks, the unit in which memory goes offline and online, and what their pages hold."""

from __future__ import annotations

from collections.abc import Iterable

from pykexec.frozen import dataclass
from pykexec.memory.ranges import PhysRange

ONLINE, OFFLINE = "online", "offline"
MOVABLE = "Movable"
"""ZONE_MOVABLE: it holds no slab, page tables, stacks or DMA buffers, only pages that can be
moved (Documentation/admin-guide/mm/memory-hotplug.rst)."""


@dataclass(frozen=True, order=True, slots=True)
class MemoryBlock:
    """One of /sys/devices/system/memory; `size` in bytes."""

    number: int
    size: int
    state: str = ONLINE
    zones: tuple[str, ...] = ()
    """valid_zones: the one that an online block is in, ("none",) where it touches several; those
    to choose from for an offline one."""
    node: int | None = None
    """None where it is unknown."""

    @property
    def range(self) -> PhysRange:
        """Physical."""
        return PhysRange.sized(self.number * self.size, self.size)

    @property
    def is_movable(self) -> bool:
        """Whether all of it is online in ZONE_MOVABLE."""
        return self.state == ONLINE and self.zones == (MOVABLE,)

    @property
    def zone(self) -> str:
        """Of an online block, "none" where it has no zone of its own."""
        return self.zones[0] if self.state == ONLINE and len(self.zones) == 1 else "none"

    @property
    def name(self) -> str:
        """As the kernel calls its folder."""
        return f"memory{self.number}"


@dataclass(frozen=True, slots=True)
class MemoryBlocks:
    """In the order of their addresses, at most the first BLOCKS_MAX of a machine."""

    size: int
    """Of each, in bytes."""
    blocks: tuple[MemoryBlock, ...]

    def touching(self, span: PhysRange) -> tuple[MemoryBlock, ...]:
        return tuple(block for block in self.blocks if block.range.overlaps(span))


def names(blocks: Iterable[MemoryBlock]) -> str:
    """ "memory4, memory5"."""
    return ", ".join(block.name for block in blocks)


@dataclass(frozen=True, slots=True)
class PageKinds:
    """Pages of a range by what /proc/kpageflags calls them
    (Documentation/admin-guide/mm/pagemap.rst)."""

    free: int = 0
    user: int = 0
    """Anonymous or mapped."""
    cache: int = 0
    """Other pages on the LRU lists: page cache."""
    huge: int = 0
    """Of hugetlbfs."""
    other: int = 0
    """Without a flag that tells: per-CPU lists of free pages, zsmalloc, and in other zones what
    the kernel allocates."""
    slab: int = 0
    page_tables: int = 0
    reserved: int = 0
    """E.g. the memmap of a hot-added block that keeps its own (memmap_on_memory)."""
    offline: int = 0
    """Logically: a balloon or virtio-mem has them."""
    poisoned: int = 0
    missing: int = 0
    """No page at all: a hole."""

    @property
    def unmovable(self) -> str:
        """The kinds, with their numbers, that must not lie in a lent window; "" without one."""
        kinds = {
            "slab": self.slab,
            "page table": self.page_tables,
            "reserved": self.reserved,
            "offline": self.offline,
            "poisoned": self.poisoned,
            "missing": self.missing,
        }
        return ", ".join(f"{count} {kind} pages" for kind, count in kinds.items() if count)
