"""The result of `unload`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykexec.cli.out.blocks import Block, Facts
from pykexec.documents.status import Unload
from pykexec.memory.blocks import names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pykexec.backends.backend import LoadState, Slot
    from pykexec.cli.report.target import Target
    from pykexec.memory.blocks import MemoryBlock

RESULTS = {
    "loaded": "unloaded",
    "not loaded": "nothing was loaded",
    "unknown": "not loaded; whether it was is unknown",
}
"""What is printed, by the old state."""


@dataclass(frozen=True)
class UnloadReport:
    """`was` is the old state of the slot."""

    target: Target
    slot: Slot
    was: LoadState
    left: tuple[MemoryBlock, ...] = ()
    """Memory blocks that could not be released."""

    @property
    def warnings(self) -> Iterator[str]:
        if busy := [block for block in self.left if block.is_movable]:
            yield (
                f"memory in use could not be moved out of {names(busy)}: these blocks stay "
                "available to applications but not to the kernel; the next unload tries again"
            )
        if offline := [block for block in self.left if not block.is_movable]:
            yield (
                f"the kernel did not take {names(offline)} back: these blocks are offline, and "
                "nothing can use them; the next unload tries again"
            )

    def document(self) -> Unload:
        left = tuple(block.name for block in self.left)
        return Unload(self.target.backend, self.slot.value, self.was.value, left)

    def page(self, verbose: int) -> list[Block]:
        now = (str(self.slot), RESULTS[self.was.value])
        return [Facts([now, ("backend", str(self.target))])]
