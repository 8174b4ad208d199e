"""What an architecture allows: the addresses of the parts of a load, and what its kernel and its
stub do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pykexec.frozen import dataclass
from pykexec.memory.ranges import PhysRange, RangeSet

if TYPE_CHECKING:
    from pykexec.memory.map import MemoryMap


@dataclass(frozen=True, slots=True)
class Limits:
    """Physical addresses in bytes; ranges are half-open."""

    destinations: PhysRange
    """The pages that a segment may use."""
    window: PhysRange
    """Where a capture kernel is placed unless the user restricts it."""
    preferred: PhysRange
    """The part of `window` that every device can reach; used first."""
    window_align: int
    low_memory: PhysRange | None
    """Memory that a capture kernel needs wherever its window is; None if it needs none."""
    why_low: str
    """Why a capture kernel needs it."""
    low_end: int
    """The rule that segments must be in the window applies to addresses from here up."""
    kernel_floor: int
    """A kernel that is loaded below this moves itself; 0 if it does not."""
    purgatory_min: int
    headers_min: int
    """The lowest address of the ELF core headers, if they are in a segment."""

    uart_in_memory: bool = False
    """Whether the stub writes to memory-mapped UARTs; otherwise to those with I/O ports."""
    headers_inside: bool = False
    """Whether the ELF core headers must be in the memory of the capture kernel; otherwise they must
    not be in its free RAM."""
    cpus_sleep: bool = True
    """Whether the other CPUs sleep in the first kernel's code after a panic; otherwise the firmware
    has switched them off."""
    zones_to_lend: tuple[str, ...] = ("Normal", "DMA32")
    """Zones whose memory blocks can be made movable. That of ZONE_DMA is too rare."""
    clock: Literal["tsc", "counter"] = "tsc"
    """By which the stub waits: the TSC if its frequency is known, or a counter that tells its own
    frequency."""

    def low_ram(self, memory_map: MemoryMap, page_size: int) -> RangeSet:
        """Whole-page RAM of this machine in the low memory, without the firmware's pages."""
        low = self.low_memory
        return memory_map.whole_page_ram(page_size).within(low) if low else RangeSet()
