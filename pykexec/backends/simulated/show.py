"""`machine show`: whose each frame is, as a value."""

from __future__ import annotations

from dataclasses import dataclass

from pykexec.backends.simulated.kernel.frames import FREE, IMAGE, IN_USE, KERNEL
from pykexec.backends.simulated.kernel.running import SimulatedKernel
from pykexec.memory.map import MemoryMap
from pykexec.memory.ranges import PhysRange, RangeSet


@dataclass(frozen=True, slots=True)
class MachineShow:
    """All sets are whole frames, disjoint, and together all whole-page RAM."""

    memory_map: MemoryMap
    in_use: RangeSet
    """The first kernel's; their contents are never touched before the switch."""
    free: RangeSet
    kernel: RangeSet
    """Written by the kernel itself when it crashes."""
    images: RangeSet
    """Taken by loaded images, outside of the reservation."""
    reservation: PhysRange | None


def show(kernel: SimulatedKernel) -> MachineShow:
    frames = kernel.frames
    return MachineShow(
        memory_map=kernel.layout.memory_map,
        in_use=frames.of(IN_USE),
        free=frames.of(FREE),
        kernel=frames.of(KERNEL),
        images=frames.of(IMAGE),
        reservation=kernel.layout.reservation,
    )
