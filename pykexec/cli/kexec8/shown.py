"""The output of kexec(8): the segment dump in its format, and with -d the placement."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pykexec.frozen import dataclass
from pykexec.memory.map import MemoryMap, RangeType
from pykexec.placement.x86.boot_params import E820_TYPES

if TYPE_CHECKING:
    from pykexec.flows.checked_plan import CheckedPlan

RANGE_TYPES = {
    RangeType.RAM: 0,
    RangeType.RESERVED: 1,
    RangeType.ACPI: 2,
    RangeType.NVS: 3,
    RangeType.PMEM: 6,
    RangeType.PRAM: 11,
}
"""The numbers that kexec-tools prints for the types; others are reserved."""


@dataclass(frozen=True)
class Given:
    """The arguments of kexec_load(2)."""

    entry: int
    segments: tuple[tuple[int, int, int, int], ...]
    """(address of the bytes, bufsz, mem, memsz) of each."""
    flags: int

    def dump(self) -> Iterator[str]:
        """Starting with nr_segments, as in kexec-tools."""
        yield f"nr_segments = {len(self.segments)}"
        for number, (buf, bufsz, mem, memsz) in enumerate(self.segments):
            yield f"segment[{number}].buf   = {_pointer(buf)}"
            yield f"segment[{number}].bufsz = {bufsz:#x}"
            yield f"segment[{number}].mem   = {_pointer(mem)}"
            yield f"segment[{number}].memsz = {memsz:#x}"

    def before(self) -> Iterator[str]:
        """With -d, before the call."""
        yield f"kexec_load: entry = {self.entry:#x} flags = {self.flags:#x}"
        yield from self.dump()

    def after(self) -> Iterator[str]:
        """After the call has failed."""
        yield f"entry       = {self.entry:#x} flags = {self.flags:#x}"
        yield from self.dump()


def _pointer(address: int) -> str:
    """printf's %p."""
    return f"{address:#x}" if address else "(nil)"


def planned(plan: CheckedPlan) -> Iterator[str]:
    """With -d: the memory, what goes where and why, and what the next kernel is passed."""
    decision = plan.plan
    image = decision.image
    yield f"kernel: {image.path} type: {image.type}"
    yield "MEMORY RANGES"
    yield from _ranges(decision.memory_map, RANGE_TYPES)
    for item in decision:
        place = f"{item.range.start:#x} size {item.range.size:#x}"
        yield f"Loaded {item.name} at {place}: {item.why}"
    yield f"command line: {decision.cmdline}"
    yield "E820 memmap:"
    yield from _ranges(decision.next_map, {kind: int(code) for kind, code in E820_TYPES.items()})


def _ranges(memory_map: MemoryMap, numbers: dict[RangeType, int]) -> Iterator[str]:
    for item in memory_map.ranges:
        number = numbers.get(item.type, RANGE_TYPES[RangeType.RESERVED])
        yield f"{item.range.start:016x}-{item.range.end - 1:016x} ({number})"
