"""`machine show`: the owner of every frame, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykexec.abi.x86.page import PAGE_SIZE
from pykexec.backends.simulated.kernel.frames import FREE, FREE_MOVABLE, IMAGE, IN_USE, KERNEL
from pykexec.memory.ranges import PhysRange, RangeSet

if TYPE_CHECKING:
    from pykexec.backends.simulated.kernel.running import SimulatedKernel
    from pykexec.memory.map import MemoryMap


@dataclass(frozen=True, slots=True)
class MachineShow:
    """All sets consist of whole frames. Those of the owners are disjoint, and together cover all
    whole-page RAM."""

    memory_map: MemoryMap
    in_use: RangeSet
    """Owned by the first kernel; their contents are never changed before the switch."""
    free: RangeSet
    kernel: RangeSet
    """Written by the kernel itself when it crashes."""
    user: RangeSet
    """Of those in use, the frames whose contents the kernel can move."""
    movable: RangeSet
    """Memory blocks in ZONE_MOVABLE."""
    lent: RangeSet
    """Of the window of mode *lent*, what its dump lacks."""
    images: RangeSet
    """Held by loaded images, outside the reservation."""
    reservation: PhysRange | None
    page_size: int = PAGE_SIZE


def show(kernel: SimulatedKernel) -> MachineShow:
    frames = kernel.frames
    return MachineShow(
        memory_map=kernel.layout.memory_map,
        in_use=frames.of(IN_USE),
        free=frames.of(FREE) | frames.of(FREE_MOVABLE),
        kernel=frames.of(KERNEL),
        user=kernel.layout.user,
        movable=kernel.layout.movable,
        lent=kernel.stage.lent if kernel.stage else RangeSet(),
        images=frames.of(IMAGE),
        reservation=kernel.layout.reservation,
    )
