"""`machine show`: whose each frame is, as a value (schema pykexec.machine/1)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pykexec.backends.simulated.frames import FREE, IMAGE, IN_USE, KERNEL
from pykexec.backends.simulated.kernel import SimulatedKernel
from pykexec.memory.map import MemoryMap
from pykexec.memory.ranges import PhysRange, RangeSet

SCHEMA = "pykexec.machine/1"


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

    def json(self) -> dict[str, object]:
        """The document of `machine show --json`."""
        return {
            "schema": SCHEMA,
            "memory_map": [
                {**span_json(item.range), "type": item.type.value}
                for item in self.memory_map.ranges
            ],
            "in_use": spans_json(self.in_use),
            "free": spans_json(self.free),
            "kernel": spans_json(self.kernel),
            "images": spans_json(self.images),
            "reservation": span_json(self.reservation) if self.reservation else None,
        }


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


def span_json(span: PhysRange) -> dict[str, str]:
    return {"start": f"{span.start:#x}", "end": f"{span.end:#x}"}


def spans_json(spans: Iterable[PhysRange]) -> list[dict[str, str]]:
    return [span_json(span) for span in spans]
