"""The first kernel while a command runs: the only mutable object here."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from pykexec.backends.page_list import BadPageList
from pykexec.backends.simulated.kernel.allocators import Allocator, Order
from pykexec.backends.simulated.kernel.first_kernel import boot
from pykexec.backends.simulated.kernel.frames import FREE, FREE_MOVABLE, IMAGE, Frames
from pykexec.backends.simulated.kernel.kimage_normal import SWAP_PAGE
from pykexec.backends.simulated.kernel.layout import Layout, RelocateKernel
from pykexec.backends.simulated.store.machine_state import MachineState, Phase
from pykexec.memory.map import RangeType
from pykexec.memory.ranges import RangeSet

if TYPE_CHECKING:
    from pykexec.backends.backend import Slot
    from pykexec.backends.simulated.kernel.kimage import KImage
    from pykexec.backends.simulated.kernel.ram import Ram

GIB = 1 << 30
PUD_SPAN = 512 * GIB


class SimulatedKernel:
    """State, memory and frames together. `order` overrides the allocator, for tests."""

    def __init__(self, state: MachineState, ram: Ram, order: Order | None = None) -> None:
        self.ram = ram
        self.order = order or state.policy.order
        self.start = state
        self.gates = state.gates
        self.loads = state.loads
        self.phase = state.phase
        self.images: dict[Slot, KImage] = dict(state.images)
        self.stage = state.stage
        self.frames = Frames(state.layout)
        if state.stage:
            self.frames.give(state.stage.pages, IMAGE)
        for slot, image in self.images.items():
            held = image.frames(ram)
            if held - self.frames.of(FREE):
                raise BadPageList(f"the page list of the {slot} image has foreign frames")
            self.frames.give(held, IMAGE)

    @property
    def layout(self) -> Layout:
        return self.start.layout

    @property
    def held(self) -> RangeSet:
        """Frames of images and of a stage."""
        return self.frames.of(IMAGE)

    @property
    def swaps(self) -> bool:
        """Whether relocate_kernel exchanges pages, and so supports the flag."""
        return self.start.relocate is RelocateKernel.SWAP

    def how_moved(self, image: KImage) -> RelocateKernel:
        """An image loaded with the flag is always exchanged."""
        return RelocateKernel.SWAP if image.by_normal else self.start.relocate

    @property
    def state(self) -> MachineState:
        """The present state, for saving."""
        return replace(
            self.start,
            gates=self.gates,
            loads=self.loads,
            phase=self.phase,
            images=dict(self.images),
            stage=self.stage,
        )

    def boot_if_down(self) -> None:
        """After a switch, the next load boots the first kernel again."""
        if self.phase is not Phase.FIRST_KERNEL:
            self.end_stage()
            boot(self.layout, self.ram)
            self.phase = Phase.FIRST_KERNEL

    def online_kernel(self, blocks: RangeSet) -> None:
        """Movable memory becomes the kernel's again: what is in it stays, and the kernel may take
        its free frames."""
        movable = self.layout.movable - blocks
        self.start = replace(self.start, layout=replace(self.layout, movable=movable))
        self.frames.give(self.frames.of(FREE_MOVABLE) & blocks, FREE)

    def end_stage(self) -> None:
        """Give back huge pages, then memory blocks, of mode *lent*."""
        staged, self.stage = self.stage, None
        if staged:
            self.frames.give(staged.pages & self.layout.movable, FREE_MOVABLE)
            self.frames.give(staged.pages - self.layout.movable, FREE)
            self.online_kernel(staged.blocks)

    def allocator(self) -> Allocator:
        """An allocator for one load."""
        self.loads += 1
        return Allocator(self.frames, self.order, Random(f"{self.start.seed}:{self.loads}"))

    def free(self, slot: Slot) -> None:
        """kimage_free: every frame is free afterwards."""
        image = self.images.pop(slot, None)
        if image:
            self.frames.free(image.frames(self.ram))

    def control_orders(self, segments: RangeSet, *, crash: bool) -> tuple[tuple[int, str], ...]:
        """Blocks from the control code page to machine_kexec_prepare and the vmcoreinfo copy,
        as (order, what for): kernel-contract 6.3.

        For a CPU without 1 GiB pages, with 4-level paging. 6.14 moved the PGD out of the control
        code page.
        """
        known = self.layout.memory_map
        acpi = known.of_type(RangeType.ACPI) | known.of_type(RangeType.NVS)
        mapped = known.ram | acpi | segments
        code = (1 if self.swaps else 0, "control code page")
        tables = _blocks_touched(mapped, PUD_SPAN) + _blocks_touched(mapped, GIB)
        tables += 0 if self.swaps else 1
        page_tables = ((0, "page table"),) * tables
        if crash:
            return code, *page_tables, (0, "vmcoreinfo copy")
        return code, (0, SWAP_PAGE), *page_tables


def _blocks_touched(spans: RangeSet, size: int) -> int:
    """The number of aligned blocks of `size` bytes that the spans touch."""
    return RangeSet.of(span.outward(size) for span in spans).size // size
