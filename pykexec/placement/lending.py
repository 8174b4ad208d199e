"""Where a window can be in memory with only movable pages, and which memory has to be made movable
for it.

Only whole memory blocks are used: blocks that are movable already, and blocks that can be made
movable (Documentation/admin-guide/mm/memory-hotplug.rst).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import TYPE_CHECKING

from pykexec.errors import DoesNotFit
from pykexec.machine import Machine, Unknown
from pykexec.memory.blocks import MOVABLE, OFFLINE, ONLINE, MemoryBlock, MemoryBlocks
from pykexec.memory.ranges import PhysRange, RangeSet, align_up
from pykexec.placement.boot_protocol import boot_protocol, whole_page_ram
from pykexec.remedies import Use, Wish, any_of

if TYPE_CHECKING:
    from pykexec.placement.limits import Limits

KERNEL_PART = 2
"""The divisor of the part of memory that stays available to the kernel's own allocations."""
PLACES_MAX = 64
"""Limit for the number of places to try."""
TOO_FEW = "usable, but the kernel would keep too little memory"
NOT_TOGETHER = "usable, but not for a window of this size at a permitted address"
REMEDY = any_of(Use(Wish.MODE, "in-place"), "boot with movablecore=SIZE")
ADDED = "added by a driver whose host can reclaim them, or unknown to the capture kernel"
NO_BLOCKS = "no memory can be made movable"


class NoMovableMemory(DoesNotFit):
    """No memory for a window is movable, or can be made movable."""

    code = "no-movable-memory"
    usual_hint = REMEDY


@dataclass(frozen=True, slots=True)
class Place:
    """A window, and the memory blocks that it touches."""

    window: PhysRange
    blocks: tuple[MemoryBlock, ...]

    @property
    def to_convert(self) -> tuple[MemoryBlock, ...]:
        """The blocks that must be made movable first."""
        return tuple(block for block in self.blocks if not block.is_movable)


@dataclass(frozen=True, slots=True)
class Places:
    """Places in the order in which to try them, and why blocks are unusable."""

    places: tuple[Place, ...]
    unusable: tuple[tuple[str, int], ...] = ()
    """(reason, number of blocks), the most frequent first; only used if there is no place."""

    def why_none(self, size: int) -> str:
        """For a window of `size` bytes."""
        reasons = "; ".join(f"{count} {reason}" for reason, count in self.unusable)
        return f"no run of memory blocks can hold a window of {size >> 20} MiB" + (
            f" ({reasons})" if reasons else ""
        )


def why_not_lend(machine: Machine) -> str | None:
    """What this machine lacks for a window in movable memory; None if one can be tried."""
    if isinstance(machine.memory_blocks, Unknown):
        return f"{NO_BLOCKS}: {machine.memory_blocks.why}"
    return balloon_problem(machine.balloons)


def balloon_problem(found: tuple[str, ...] | Unknown) -> str | None:
    """Why movable memory may not be there at a panic; None if no balloon driver is active."""
    if isinstance(found, Unknown):
        return f"whether a balloon driver is active is {found}"
    if not found:
        return None
    return f"a balloon driver is active ({', '.join(found)}): the host can take movable memory back"


def places(
    machine: Machine,
    size: int,
    inside: PhysRange,
    ours: RangeSet | None = None,
    refused: Iterable[int] = (),
) -> Places:
    """Places for a window of `size` bytes inside `inside`: first those that every device can reach,
    then those with the fewest blocks to make movable, then from the top.

    `ours` is memory of pykexec that must not move; `refused` has the numbers of blocks that the
    kernel could not make movable.
    """
    found = machine.memory_blocks
    if isinstance(found, Unknown):
        return Places(())
    limits = boot_protocol(machine).limits
    reasons = dict(_block_reasons(found, machine, ours or RangeSet(), frozenset(refused)))
    usable = tuple(block for block in found.blocks if block.number not in reasons)
    runs = RangeSet.of(block.range for block in usable)
    windows = [
        window for window in _block_starts(usable, size, inside, limits) if runs.covers(window)
    ]
    online = Counter((b.node, b.zone) for b in found.blocks if b.state == ONLINE)
    chosen = _ordered(windows, usable, limits)
    enough = islice((item for item in chosen if _leaves_enough(item, online)), PLACES_MAX)
    counted = Counter(reasons.values())
    if usable:
        counted[TOO_FEW if windows else NOT_TOGETHER] = len(usable)
    return Places(tuple(enough), tuple(counted.most_common()))


def _block_starts(
    usable: tuple[MemoryBlock, ...], size: int, inside: PhysRange, limits: Limits
) -> Iterator[PhysRange]:
    """Windows from the start of each block, or from the start of `inside` if that is in the middle
    of one."""
    bounds = inside.intersect(limits.destinations)
    if bounds is None or size <= 0:
        return
    for block in usable:
        start = align_up(max(block.range.start, bounds.start), limits.window_align)
        if start in block.range and start + size <= bounds.end:
            yield PhysRange.sized(start, size)


def _ordered(
    windows: list[PhysRange], usable: tuple[MemoryBlock, ...], limits: Limits
) -> Iterator[Place]:
    """The best first; every window consists only of blocks in `usable`."""
    index = {block.number: at for at, block in enumerate(usable)}
    conversions = [0, *accumulate(not block.is_movable for block in usable)]

    def span(window: PhysRange) -> slice:
        size = usable[0].size
        return slice(index[window.start // size], index[window.last // size] + 1)

    def cost(window: PhysRange) -> tuple[bool, int, bool, int]:
        touched = span(window)
        first, last = usable[touched.start], usable[touched.stop - 1]
        return (
            not limits.preferred.covers(window),
            conversions[touched.stop] - conversions[touched.start],
            first.node != last.node,
            -window.start,
        )

    for window in sorted(windows, key=cost):
        yield Place(window, usable[span(window)])


def _block_reasons(
    found: MemoryBlocks, machine: Machine, ours: RangeSet, refused: frozenset[int]
) -> Iterator[tuple[int, str]]:
    """(number, why) of each block that cannot be part of a window."""
    ram, driver_ram = whole_page_ram(machine), machine.known_map.driver_ram
    kernel = (machine.kernel_image or RangeSet()) | (machine.per_cpu or RangeSet())
    for block in found.blocks:
        if driver_ram.overlaps(block.range):
            yield block.number, ADDED
        elif not ram.covers(block.range):
            yield block.number, "with holes"
        elif why := unusable(block, machine, kernel, ours):
            yield block.number, why
        elif block.number in refused:
            yield block.number, "that cannot be made movable now"


def unusable(block: MemoryBlock, machine: Machine, kernel: RangeSet, ours: RangeSet) -> str:
    """Why a block that is entirely RAM cannot be part of a window, as the end of "3 ..."; "" if it
    can."""
    span = block.range
    if block.state != ONLINE:
        return "offline" if block.state == OFFLINE else "changing their state"
    if (machine.crash_kernel or RangeSet()).overlaps(span):
        return "with the crash region"
    if machine.hardware_memory.overlaps(span):
        return "with memory that an IOMMU uses"
    if block.is_movable:
        return ""
    zones = boot_protocol(machine).limits.zones_to_lend
    if block.zone not in zones:
        return "in several zones, or in ZONE_DMA" if zones else "there since boot"
    if kernel.overlaps(span):
        return "with the running kernel or its per-CPU data"
    return "with huge pages of pykexec" if ours.overlaps(span) else ""


def _leaves_enough(place: Place, online: Counter[tuple[int | None, str]]) -> bool:
    """Whether the kernel keeps half of the memory for itself, and every zone of a node keeps a
    block; `online` counts the blocks by node and zone."""
    converted = Counter((block.node, block.zone) for block in place.to_convert)
    if not converted:
        return True
    kernel = sum(count for (_, zone), count in online.items() if zone != MOVABLE)
    left = kernel - converted.total()
    return left * KERNEL_PART >= online.total() and all(
        online[zone] > count for zone, count in converted.items()
    )


def kernel_memory_left(found: MemoryBlocks, window: PhysRange) -> int:
    """Bytes available to the kernel's own allocations if the blocks that `window` touches are
    movable."""
    return sum(
        block.size
        for block in found.blocks
        if block.state == ONLINE and not block.is_movable and not block.range.overlaps(window)
    )


def lending_warnings(machine: Machine, window: PhysRange) -> tuple[str, ...]:
    """What a window in movable memory costs, and what the dump may lose."""
    warnings = []
    if machine.swap_in_memory:
        warnings.append(
            f"{', '.join(machine.swap_in_memory)} may keep compressed pages in the lent memory, "
            "and these are not in the dump"
        )
    if not boot_protocol(machine).limits.preferred.covers(window):
        warnings.append(
            "the window is above 4 GiB: the capture kernel has no memory for devices that "
            "reach no further"
        )
    return tuple(warnings)
