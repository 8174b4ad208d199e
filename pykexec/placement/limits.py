"""Where an architecture lets the parts of a load lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.frozen import dataclass
from pykexec.memory.ranges import PhysRange, RangeSet

if TYPE_CHECKING:
    from pykexec.memory.map import MemoryMap


@dataclass(frozen=True, slots=True)
class Limits:
    """Physical addresses in bytes; ranges are half-open."""

    destinations: PhysRange
    """Every page that a segment may have."""
    window: PhysRange
    """Where a capture kernel is placed unless the user restricts it."""
    preferred: PhysRange
    """The part of `window` that every device reaches; used first."""
    window_align: int
    low_memory: PhysRange | None
    """Memory that a capture kernel needs wherever its window is; None where it needs none."""
    why_low: str
    """What a capture kernel needs it for."""
    low_end: int
    """The rule that segments lie in the window is for those from here on."""
    kernel_floor: int
    """A kernel that is loaded below moves itself; 0 where it stays."""
    purgatory_min: int
    headers_min: int
    """The lowest address of the ELF core headers, where a segment holds them."""

    def low_ram(self, memory_map: MemoryMap) -> RangeSet:
        """Whole-page RAM of the low memory, as this machine has it; never the firmware's pages."""
        low = self.low_memory
        return memory_map.whole_page_ram.within(low) if low else RangeSet()
