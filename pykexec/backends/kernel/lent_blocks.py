"""Memory blocks that are made movable for a window: found, changed, verified and released.

Every change is recorded in a journal first, as for huge pages. Callers hold `host.lock.exclusive`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Protocol

from pykexec.backends.kernel.state_file import StateFile
from pykexec.errors import KexecError
from pykexec.host.memory_blocks import BlockRefused, BlockSystem
from pykexec.machine import Machine, Unknown
from pykexec.memory.blocks import (
    MOVABLE,
    OFFLINE,
    ONLINE,
    MemoryBlock,
    MemoryBlocks,
    PageKinds,
    names,
)
from pykexec.memory.ranges import PhysRange, RangeSet
from pykexec.placement.lending import (
    NoMovableMemory,
    Place,
    balloon_problem,
    places,
    why_not_lend,
)

OFFLINE_SECONDS = 5.0
"""Limit for one block; the kernel moves 128 MiB in a fraction of a second, unless a page is
pinned."""
ONLINE_SECONDS = 20.0
SEARCH_SECONDS = 15.0
"""After this time no other block is tried: a load should finish within 30 seconds."""
DETAILS_MAX = 16


class BadBlockJournal(KexecError):
    """A journal of memory blocks that was not written by pykexec."""

    code = "bad-block-journal"


class BlockMachine(Protocol):
    """host.memory_blocks.BlockSystem, or a model of it in a test."""

    def blocks(self) -> MemoryBlocks | Unknown: ...
    def block(self, number: int, size: int) -> MemoryBlock | Unknown: ...
    def kinds(self, span: PhysRange) -> PageKinds | Unknown: ...
    def balloons(self) -> tuple[str, ...] | Unknown: ...
    def set_state(self, number: int, state: str, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class ChangedBlocks:
    """The changed blocks of `size` bytes, as (number, old zone)."""

    schema: ClassVar[str] = "pykexec.blocks/1"
    size: int
    blocks: tuple[tuple[int, str], ...]


class BlockJournal(StateFile[ChangedBlocks, ChangedBlocks]):
    """Written before each change of a block."""

    name, kind, what = "blocks.json", ChangedBlocks, "journal"
    bad = BadBlockJournal
    remedy = "remove it; write offline and online_kernel to state in /sys/devices/system/memory"

    def encode(self, value: ChangedBlocks) -> ChangedBlocks:
        return value

    def decode(self, found: ChangedBlocks) -> ChangedBlocks:
        return found


class LentBlocks:
    """The blocks of one machine, which all loads share."""

    def __init__(self, folder: Path, system: BlockMachine | None = None) -> None:
        self.system: BlockMachine = system or BlockSystem()
        self.journal = BlockJournal(folder)

    @property
    def changed(self) -> tuple[MemoryBlock, ...]:
        """The blocks in the journal, in their old state."""
        found = self.journal.read()
        if found is None:
            return ()
        return tuple(
            MemoryBlock(number, found.size, zones=(zone,)) for number, zone in found.blocks
        )

    def window(self, machine: Machine, size: int, inside: PhysRange, ours: RangeSet) -> PhysRange:
        """A window of `size` bytes inside `inside`, verified to be in movable blocks. Blocks that
        were made movable in vain are left to `give_back`. Raises NoMovableMemory.
        """
        if why := why_not_lend(machine):
            raise NoMovableMemory(why)
        end = time.monotonic() + SEARCH_SECONDS
        refused: dict[int, str] = {}
        while True:
            found = places(self.current(machine), size, inside, ours, refused)
            if not found.places or time.monotonic() > end:
                why = found.why_none(size) if not found.places else "it took too long"
                raise NoMovableMemory(
                    f"no memory block could be made movable: {why}" if refused else why,
                    details=tuple(refused.values())[:DETAILS_MAX],
                )
            place = found.places[0]
            try:
                self.prepare(place)
            except BlockRefused as error:
                refused[int(str(error.facts["block"]))] = error.message
            else:
                return place.window

    def current(self, machine: Machine) -> Machine:
        """The machine with the present blocks."""
        return replace(machine, memory_blocks=self.system.blocks())

    @property
    def movable(self) -> RangeSet:
        """Memory that is movable at present, and may therefore go offline."""
        found = self.system.blocks()
        if isinstance(found, Unknown):
            return RangeSet()
        return RangeSet.of(block.range for block in found.blocks if block.is_movable)

    def prepare(self, place: Place) -> None:
        """Make all blocks of a place movable, with only movable contents. Raises BlockRefused with
        the number of a block for which that is impossible."""
        for block in place.blocks:
            kinds = self.movable_kinds(block, block.range)
            if not block.is_movable:
                _refuse_huge_pages(block, kinds)
        for block in place.to_convert:
            self.make_movable(block)
        for block in place.blocks:
            self.check(block, place.window)

    def movable_kinds(self, block: MemoryBlock, span: PhysRange) -> PageKinds:
        """The pages of a block, or of a part of it. Raises BlockRefused if any cannot be moved."""
        kinds = self.system.kinds(span)
        if isinstance(kinds, Unknown):
            raise BlockRefused(f"{block.name}: {kinds}", block=block.number)
        if kinds.unmovable:
            raise BlockRefused(f"{block.name}: {kinds.unmovable}", block=block.number)
        return kinds

    def check(self, block: MemoryBlock, window: PhysRange) -> None:
        """Verify that it is online, movable, and has only movable contents. Raises BlockRefused."""
        now = self.system.block(block.number, block.size)
        if isinstance(now, Unknown) or not now.is_movable:
            raise BlockRefused(f"{block.name}: {_state_of(now)}", block=block.number)
        if inside := block.range.intersect(window):
            self.movable_kinds(block, inside)

    def make_movable(self, block: MemoryBlock) -> None:
        """Raises BlockRefused; the block is then restored, or in the journal."""
        self.note(block)
        try:
            self.system.set_state(block.number, "offline", OFFLINE_SECONDS)
            self.system.set_state(block.number, "online_movable", ONLINE_SECONDS)
        except BlockRefused as error:
            self.restore(block)
            raise BlockRefused(error.message, block=block.number) from error

    def note(self, block: MemoryBlock) -> None:
        """Add it to the journal, before anything is changed."""
        found = self.journal.read() or ChangedBlocks(block.size, ())
        if all(number != block.number for number, _ in found.blocks):
            self.journal.write(replace(found, blocks=(*found.blocks, (block.number, block.zone))))

    def forget(self, block: MemoryBlock) -> None:
        found = self.journal.read()
        if found is None:
            return
        left = tuple(item for item in found.blocks if item[0] != block.number)
        if left:
            self.journal.write(replace(found, blocks=left))
        else:
            self.journal.remove()

    def restore(self, block: MemoryBlock) -> bool:
        """Return it to the kernel's zone, whatever state it was left in; False if it is busy and
        stays movable, which does no harm."""
        try:
            now = self.system.block(block.number, block.size)
            if isinstance(now, MemoryBlock) and now.is_movable:
                self.system.set_state(block.number, "offline", OFFLINE_SECONDS)
                now = self.system.block(block.number, block.size)
            if isinstance(now, MemoryBlock) and now.state == OFFLINE:
                self.system.set_state(block.number, "online_kernel", ONLINE_SECONDS)
                now = self.system.block(block.number, block.size)
        except BlockRefused:
            return False
        if _is_changed(now):
            return False
        self.forget(block)
        return True

    def left(self, in_use: RangeSet) -> tuple[MemoryBlock, ...]:
        """The blocks in the journal outside of `in_use` that are still movable or not online, in
        their present state."""
        unused = (block for block in self.changed if not in_use.overlaps(block.range))
        now = (self.system.block(block.number, block.size) for block in unused)
        return tuple(
            block for block in now if isinstance(block, MemoryBlock) and _is_changed(block)
        )

    def give_back(self, keep: Iterable[PhysRange] = ()) -> tuple[MemoryBlock, ...]:
        """Restore all but the blocks of these windows; returns the busy ones, which are tried again
        next time."""
        kept = tuple(keep)
        return tuple(
            block
            for block in self.changed
            if not any(block.range.overlaps(window) for window in kept) and not self.restore(block)
        )

    def problem(self, window: PhysRange) -> str | None:
        """Why the memory of a window is no longer movable, or may not be there at a panic; None if
        neither. A balloon driver can be loaded at any time."""
        if why := balloon_problem(self.system.balloons()):
            return why
        found = self.system.blocks()
        if isinstance(found, Unknown):
            return f"the memory blocks of the window: {found}"
        touching = found.touching(window)
        if not RangeSet.of(block.range for block in touching).covers(window):
            return "a memory block of the window is gone"
        wrong = [block for block in touching if not block.is_movable]
        if wrong:
            return f"{names(wrong)}: {_state_of(wrong[0])}"
        kinds = self.system.kinds(window)
        if isinstance(kinds, PageKinds) and kinds.unmovable:
            return f"the window holds {kinds.unmovable}"
        return None


def _refuse_huge_pages(block: MemoryBlock, kinds: PageKinds) -> None:
    """Free pages of a pool would leave it when the block goes offline, and pages in use would move
    (mm/hugetlb.c:dissolve_free_huge_pages). Raises BlockRefused."""
    if kinds.huge:
        raise BlockRefused(
            f"{block.name}: {kinds.huge} pages belong to huge pages", block=block.number
        )


def _is_changed(block: MemoryBlock | Unknown) -> bool:
    """Whether it has not been returned to the kernel's zone. A block that is gone has nothing to
    return."""
    return isinstance(block, MemoryBlock) and (block.is_movable or block.state != ONLINE)


def _state_of(block: MemoryBlock | Unknown) -> str:
    """The state of a block that is not movable, for a message."""
    if isinstance(block, Unknown):
        return f"its state is {block}"
    if block.state == OFFLINE:
        return "it is offline"
    return f"it is {block.state}, in zone {' '.join(block.zones) or 'none'} and not in {MOVABLE}"
