"""Everything about a simulated machine except the bytes in its memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from pykexec.backends.simulated.kernel.allocators import Policy
from pykexec.backends.simulated.kernel.gates import Gates
from pykexec.backends.simulated.kernel.layout import Layout, RelocateKernel

if TYPE_CHECKING:
    from pykexec.backends.backend import Slot
    from pykexec.backends.simulated.kernel.kimage import KImage
    from pykexec.memory.ranges import RangeSet


class Phase(StrEnum):
    """Which kernel runs on the machine."""

    FIRST_KERNEL = "first kernel"
    SWITCHED = "switched"
    """A second kernel ran, and memory has what it left. The next load boots the first kernel
    again."""


@dataclass(frozen=True, slots=True)
class Staged:
    """Huge pages, the window, and the memory blocks that were made movable for it."""

    pages: RangeSet
    lent: RangeSet
    blocks: RangeSet


@dataclass(frozen=True)
class MachineState:
    """The contents of machine.json."""

    layout: Layout
    policy: Policy = Policy.RANDOM
    relocate: RelocateKernel = RelocateKernel.SWAP
    seed: int = 0
    loads: int = 0
    """Number of loads; each one allocates in another order."""
    gates: Gates = field(default_factory=Gates)
    images: Mapping[Slot, KImage] = field(default_factory=dict)
    phase: Phase = Phase.FIRST_KERNEL
    stage: Staged | None = None
    """What a crash by normal in mode *lent* holds beside its image."""
