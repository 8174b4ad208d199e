"""The result of `unload`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykexec.cli.out.blocks import Block, Facts
from pykexec.documents.status import Unload

if TYPE_CHECKING:
    from pykexec.backends.backend import LoadState, Slot
    from pykexec.cli.report.target import Target

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
    busy_blocks: tuple[str, ...] = ()
    """Memory blocks that could not be released."""

    @property
    def warnings(self) -> tuple[str, ...]:
        if not self.busy_blocks:
            return ()
        return (
            f"memory in use could not be moved out of {', '.join(self.busy_blocks)}: these blocks "
            "stay available to applications but not to the kernel; the next unload tries again",
        )

    def document(self) -> Unload:
        return Unload(self.target.backend, self.slot.value, self.was.value, self.busy_blocks)

    def page(self, verbose: int) -> list[Block]:
        now = (str(self.slot), RESULTS[self.was.value])
        return [Facts([now, ("backend", str(self.target))])]
