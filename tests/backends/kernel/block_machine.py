"""Memory blocks of a model, which change as the kernel's do (drivers/base/memory.c)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from pykexec.host.memory_blocks import BlockRefused
from pykexec.machine import Machine, Unknown
from pykexec.memory.blocks import MemoryBlock, MemoryBlocks, PageKinds
from pykexec.memory.ranges import PhysRange


class KilledError(BaseException):
    """kill -9: nothing of ours runs after it."""


@dataclass
class ModelBlocks:
    """lent_blocks.BlockMachine; a block with a number in `pinned` does not go offline."""

    found: MemoryBlocks
    pinned: set[int] = field(default_factory=set)
    bad: dict[int, PageKinds] = field(default_factory=dict)
    """What blocks hold, if not pages that can be moved."""
    lies: set[int] = field(default_factory=set)
    """Blocks that online_movable does not make movable."""
    drivers: tuple[str, ...] = ()
    """Balloon drivers that are active."""
    written: list[tuple[int, str]] = field(default_factory=list)
    step: Callable[[], None] = lambda: None
    moved: Callable[[PhysRange], None] = lambda span: None
    """Told of memory that goes offline, which moves what is there."""

    @classmethod
    def of(cls, machine: Machine) -> ModelBlocks:
        assert isinstance(machine.memory_blocks, MemoryBlocks)
        return cls(machine.memory_blocks)

    def blocks(self) -> MemoryBlocks | Unknown:
        return self.found

    def block(self, number: int, size: int) -> MemoryBlock | Unknown:
        for block in self.found.blocks:
            if block.number == number:
                return block
        return Unknown(f"memory{number}: no such block")

    def kinds(self, span: PhysRange) -> PageKinds | Unknown:
        for number, kinds in self.bad.items():
            if span.overlaps(PhysRange.sized(number * self.found.size, self.found.size)):
                return kinds
        return PageKinds(free=span.size >> 12)

    def balloons(self) -> tuple[str, ...] | Unknown:
        return self.drivers

    def set_state(self, number: int, state: str, seconds: float) -> None:
        self.step()
        block = self.block(number, self.found.size)
        assert isinstance(block, MemoryBlock)
        zone = "DMA32" if block.range.start < 1 << 32 else "Normal"
        self.written.append((number, state))
        if state == "offline":
            if number in self.pinned:
                raise BlockRefused(f"memory{number}: not offline: device or resource busy")
            self.moved(block.range)
            self.put(replace(block, state="offline", zones=(zone, "Movable")))
        else:
            assert block.state == "offline", f"{block.name} is {block.state}"
            movable = state == "online_movable" and number not in self.lies
            self.put(replace(block, state="online", zones=("Movable" if movable else zone,)))
        self.step()

    def put(self, block: MemoryBlock) -> None:
        self.found = replace(
            self.found,
            blocks=tuple(block if b.number == block.number else b for b in self.found.blocks),
        )
