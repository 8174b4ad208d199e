"""Memory blocks of the simulated kernel, in ZONE_MOVABLE or not (drivers/base/memory.c)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from pykexec.abi.x86.page import PAGE_SIZE
from pykexec.backends.simulated.kernel.frames import FREE, FREE_MOVABLE, IN_USE
from pykexec.backends.simulated.kernel.layout import BLOCK_SIZE, Layout
from pykexec.errors import KexecError
from pykexec.memory.blocks import MOVABLE, ONLINE, MemoryBlock, MemoryBlocks, PageKinds
from pykexec.memory.ranges import PhysRange, RangeSet

if TYPE_CHECKING:
    from pykexec.backends.simulated.kernel.running import SimulatedKernel

DMA_END = 16 << 20
FOUR_GIB = 1 << 32


class BlockBusy(KexecError):
    """EBUSY: a block holds pages that cannot be moved, or there is no room to move them to."""

    code = "block-busy"
    usual_hint = "use a machine of which less is in use"


def memory_blocks(layout: Layout) -> MemoryBlocks:
    """All that have RAM, as /sys/devices/system/memory shows them."""
    return MemoryBlocks(BLOCK_SIZE, tuple(_blocks(layout)))


def _blocks(layout: Layout) -> Iterator[MemoryBlock]:
    ram = layout.memory_map.whole_page_ram(PAGE_SIZE)
    for start in range(0, layout.size, BLOCK_SIZE):
        span = PhysRange.sized(start, BLOCK_SIZE)
        if not ram.overlaps(span):
            continue
        zone = "DMA32" if span.end <= FOUR_GIB else "Normal"
        if layout.movable.covers(span):
            zone = MOVABLE
        elif span.start < DMA_END or not ram.covers(span):
            zone = "none"
        yield MemoryBlock(start // BLOCK_SIZE, BLOCK_SIZE, ONLINE, (zone,), 0)


def kinds(layout: Layout, span: PhysRange) -> PageKinds:
    """What the pages of a range hold."""
    inside = RangeSet((span,))
    user = (layout.user & inside).size // PAGE_SIZE
    used = ((layout.in_use | layout.kernel | layout.reserved) & inside).size // PAGE_SIZE
    ram = (layout.memory_map.whole_page_ram(PAGE_SIZE) & inside).size // PAGE_SIZE
    missing = span.size // PAGE_SIZE - ram
    return PageKinds(free=ram - used, user=user, slab=used - user, missing=missing)


def make_movable(kernel: SimulatedKernel, block: MemoryBlock) -> None:
    """offline, which moves the user pages out, and online_movable. Raises BlockBusy."""
    span = RangeSet((block.range,))
    moved = _move_out(kernel, block.range, block.name, span)
    layout = kernel.layout
    layout = replace(
        layout,
        in_use=layout.in_use - span | moved,
        user=layout.user - span | moved,
        movable=layout.movable | span,
    )
    kernel.start = replace(kernel.start, layout=layout)
    kernel.frames.give(moved, IN_USE)
    kernel.frames.give(span, FREE_MOVABLE)


def compact(kernel: SimulatedKernel, at: PhysRange, keep_off: RangeSet) -> None:
    """Move the user pages of a range elsewhere, so that it is free, as the kernel does for a huge
    page (mm/compaction.c); they go nowhere in `keep_off`. Raises BlockBusy."""
    span = RangeSet((at,))
    moved = _move_out(kernel, at, str(at), keep_off | span)
    layout = kernel.layout
    layout = replace(layout, in_use=layout.in_use - span | moved, user=layout.user - span | moved)
    kernel.start = replace(kernel.start, layout=layout)
    kernel.frames.give(moved, IN_USE)
    kernel.frames.give(span, FREE)


def _move_out(kernel: SimulatedKernel, at: PhysRange, name: str, keep_off: RangeSet) -> RangeSet:
    """Copy the user pages of a range to free frames outside `keep_off`, which are returned. Raises
    BlockBusy."""
    layout = kernel.layout
    if kinds(layout, at).unmovable or kernel.held.overlaps(at):
        raise BlockBusy(f"{name}: device or resource busy (EBUSY)")
    before = [page for run in layout.user & RangeSet((at,)) for page in pages(run)]
    room = [page for run in kernel.frames.of(FREE) - keep_off for page in pages(run)]
    if len(room) < len(before):
        raise BlockBusy(f"{name}: no memory to move {len(before)} pages to (EBUSY)")
    after = room[len(room) - len(before) :]
    for source, dest in zip(before, after, strict=True):
        kernel.ram.copy(dest, source, PAGE_SIZE)
    return RangeSet.of(PhysRange.sized(page, PAGE_SIZE) for page in after)


def use_movable(kernel: SimulatedKernel, spans: Iterable[PhysRange]) -> None:
    """Applications take free frames in ZONE_MOVABLE, where the kernel takes none."""
    wanted = RangeSet.of(spans) & kernel.frames.of(FREE_MOVABLE)
    layout = kernel.layout
    kernel.start = replace(
        kernel.start,
        layout=replace(layout, in_use=layout.in_use | wanted, user=layout.user | wanted),
    )
    kernel.frames.give(wanted, IN_USE)


def pages(span: PhysRange) -> range:
    return range(span.start, span.end, PAGE_SIZE)
