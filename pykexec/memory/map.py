"""The memory map of a machine: which addresses are RAM, and what the rest is."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from pykexec.frozen import dataclass
from pykexec.memory.ranges import PhysRange, RangeSet


class RangeType(StrEnum):
    """A kind of memory, as /proc/iomem spells it; the order is e820's."""

    RAM = "System RAM"
    RESERVED = "Reserved"
    ACPI = "ACPI Tables"
    NVS = "ACPI Non-volatile Storage"
    UNUSABLE = "Unusable memory"
    PMEM = "Persistent Memory"
    PRAM = "Persistent Memory (legacy)"
    SOFT_RESERVED = "Soft Reserved"

    @classmethod
    def from_label(cls, label: str) -> RangeType | None:
        """The type with this label of the kernel, ignoring case: old kernels write "reserved"."""
        return LABELS.get(label.strip().lower())


LABELS = {kind.value.lower(): kind for kind in RangeType}


@dataclass(frozen=True, order=True, slots=True)
class MemoryRange:
    """A typed span; struct memory_range of kexec-tools."""

    range: PhysRange
    type: RangeType


MEMORY_TYPES = tuple(RangeType)
REACHABLE = PhysRange(0, 1 << 52)
"""The physical address space of x86, with the most bits that the architecture allows."""
NO_MEMORY = RangeSet()
DRIVER_RAM = "System RAM (driver)"
"""The name of `MemoryMap.driver_ram` in documents."""


@dataclass(frozen=True, slots=True)
class MemoryMap:
    """Sorted, disjoint, coalesced by type; build one with `of`.

    `driver_ram` is RAM that the next kernel must detect again: what a driver detected and added
    (virtio_mem, kmem), and what was added after the boot, if the next kernel is not told of it.
    Nothing is placed there, but a dump contains it. In the firmware's map it may have another type
    (mm/memory_hotplug.c:add_memory_driver_managed).

    `held` is RAM that the running kernel reserved for itself: nothing is placed there either, and a
    dump contains it.
    """

    ranges: tuple[MemoryRange, ...]
    driver_ram: RangeSet = NO_MEMORY
    held: RangeSet = NO_MEMORY

    @classmethod
    def of(
        cls,
        ranges: Iterable[MemoryRange],
        driver_ram: RangeSet = NO_MEMORY,
        held: RangeSet = NO_MEMORY,
    ) -> MemoryMap:
        """Build a map from ranges in any order. Where two overlap, the higher e820 type wins, as in
        e820__update_table: memory that any range reserves is not RAM."""
        by_type: dict[RangeType, list[PhysRange]] = {}
        for item in ranges:
            by_type.setdefault(item.type, []).append(item.range)
        taken = RangeSet()
        found: list[MemoryRange] = []
        for kind in reversed(MEMORY_TYPES):
            mine = RangeSet.of(by_type.get(kind, ())) - taken
            taken = taken | mine
            found.extend(MemoryRange(span, kind) for span in mine)
        return cls(tuple(sorted(found, key=lambda item: item.range)), driver_ram, held)

    def booted_with(self, memory: RangeSet) -> MemoryMap:
        """This map for a machine that booted with `memory` alone: all other RAM was added later.
        Unchanged if none of its RAM is in `memory`, which is then that of another machine."""
        ram = self.ram
        if not ram & memory:
            return self
        kept = (item for item in self.ranges if item.type is not RangeType.RAM)
        ranges = (*kept, *(MemoryRange(span, RangeType.RAM) for span in ram & memory))
        return MemoryMap.of(ranges, self.driver_ram | (ram - memory), self.held)

    def of_type(self, kind: RangeType) -> RangeSet:
        """The ranges of this type."""
        return RangeSet.of(item.range for item in self.ranges if item.type is kind)

    @property
    def ram(self) -> RangeSet:
        """All RAM, not rounded to pages."""
        return self.of_type(RangeType.RAM)

    def whole_page_ram(self, page_size: int) -> RangeSet:
        """RAM in whole pages, of `page_size` bytes, in which something can be placed: a page that
        is partly something else is not used."""
        return (self.ram - self.held).inward(page_size)

    def old_memory(self, page_size: int) -> RangeSet:
        """The memory that a dump of this machine contains, in whole pages of `page_size` bytes."""
        return (self.ram | self.driver_ram).inward(page_size)

    @property
    def reachable(self) -> MemoryMap:
        """The map without ranges that no processor can address, which only a damaged map has."""
        inside = (
            MemoryRange(span, item.type)
            for item in self.ranges
            if (span := item.range.intersect(REACHABLE))
        )
        return MemoryMap(tuple(inside), self.driver_ram.within(REACHABLE), self.held)

    @property
    def out_of_reach(self) -> RangeSet:
        """RAM that is not in `reachable`."""
        return (self.ram | self.driver_ram).without(REACHABLE)

    @property
    def firmware(self) -> tuple[MemoryRange, ...]:
        """All ranges that are not RAM."""
        return tuple(item for item in self.ranges if item.type is not RangeType.RAM)
