"""The memory layout of a simulated machine while its first kernel runs. Pure values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pykexec.abi.x86.page import PAGE_SIZE
from pykexec.crash.notes import CPU_NOTE_SIZE
from pykexec.errors import KexecError
from pykexec.memory.ranges import PhysRange, RangeSet

if TYPE_CHECKING:
    from pykexec.machine import CpuNotes, NoteArea
    from pykexec.memory.map import MemoryMap

PAGE_OFFSET_BASE = 0xFFFF888000000000
"""Start of the direct map without KASLR, 4-level paging."""
MAX_MEMORY = 128 << 30
"""Limit in bytes for the highest address, and so for the file's size."""
MIN_MEMORY = 8 << 20
LOW_MEMORY_END = 0x100000


class BadLayout(KexecError):
    """Contradictory parts of a simulated machine."""

    code = "bad-machine"


NOTHING = RangeSet()
BLOCK_SIZE = 128 << 20
"""Bytes of a memory block: that of x86 below 64 GiB."""


class RelocateKernel(StrEnum):
    """What relocate_kernel does with a normal image (kernel-contract 3.1)."""

    SWAP = "swap"
    """As x86_64 from 2.6.30 to 6.13; supports KEXEC_CRASH_BY_NORMAL."""
    COPY = "copy"
    """As x86_64 since 6.14."""


RELEASES = {RelocateKernel.SWAP: "6.1.0-simulated", RelocateKernel.COPY: "6.14.0-simulated"}


def check_end(end: int) -> None:
    """Check the end of the highest RAM. Raises BadLayout."""
    if end > MAX_MEMORY:
        raise BadLayout(
            f"RAM ends at {end:#x}, but the limit for simulated machines is {MAX_MEMORY:#x}"
        )


@dataclass(frozen=True)
class Layout:
    """The first kernel's memory: whole frames, except where a field says otherwise."""

    memory_map: MemoryMap
    """As shown in its /proc/iomem."""
    in_use: RangeSet
    """Frames that it uses, including the kernel image and low memory."""
    kernel_image: RangeSet
    """Text, rodata, data and bss."""
    cpus: tuple[CpuNotes, ...]
    """crash_notes of each CPU, in bytes."""
    vmcoreinfo: NoteArea
    """The VMCOREINFO note, in bytes."""
    reservation: PhysRange | None
    """The crash region; neither in use nor free."""
    release: str
    cmdline: str
    page_offset_base: int = PAGE_OFFSET_BASE
    region_made: bool = False
    """The reservation was made while the first kernel ran; it ends with that kernel."""
    user: RangeSet = NOTHING
    """Of the frames in use, those with user pages or page cache: the kernel can move their
    contents, and those of the others it cannot."""
    movable: RangeSet = NOTHING
    """Whole memory blocks in ZONE_MOVABLE."""

    def __post_init__(self) -> None:
        frames = self.memory_map.whole_page_ram(PAGE_SIZE)
        if not frames:
            raise BadLayout("the machine has no RAM")
        check_end(self.size)
        taken = RangeSet()
        for what, spans in (
            ("the frames in use", self.in_use),
            ("the kernel's own frames", self.kernel),
            ("the reservation", self.reserved),
        ):
            if spans - frames:
                raise BadLayout(f"{what} are not all RAM: {(spans - frames).ranges[0]}")
            if spans & taken:
                raise BadLayout(f"{what} overlap others at {(spans & taken).ranges[0]}")
            if any(not span.is_aligned(PAGE_SIZE) for span in spans):
                raise BadLayout(f"{what} are not whole frames")
            taken = taken | spans
        self.check_movable(frames)
        if self.kernel_image - self.in_use:
            raise BadLayout("the kernel image is not in use")
        for notes in self.cpus:
            if notes.size < CPU_NOTE_SIZE or notes.addr % PAGE_SIZE + notes.size > PAGE_SIZE:
                raise BadLayout(
                    f"crash_notes of CPU {notes.cpu} at {notes.addr:#x} straddle a page or are "
                    f"smaller than {CPU_NOTE_SIZE} bytes"
                )

    def check_movable(self, frames: RangeSet) -> None:
        """Movable memory is RAM, and the kernel has nothing of its own there. Raises BadLayout."""
        if self.user - self.in_use or self.user & self.kernel_image:
            raise BadLayout("frames with user pages are the kernel's, or not in use")
        kernels = (self.in_use - self.user) | self.kernel | self.reserved
        if kernels & self.movable or self.movable - frames:
            raise BadLayout("movable memory is no RAM, or the kernel uses it")

    @property
    def size(self) -> int:
        """End of the highest RAM in bytes, which is the size of the RAM file."""
        return self.memory_map.ram.ranges[-1].end

    @property
    def installed(self) -> RangeSet:
        """All existing memory: RAM, and the first page, which kernels do not use."""
        return self.memory_map.ram | RangeSet((PhysRange(0, PAGE_SIZE),))

    @property
    def reserved(self) -> RangeSet:
        return RangeSet((self.reservation,) if self.reservation else ())

    @property
    def kernel(self) -> RangeSet:
        """Frames that the kernel itself writes when it crashes: CPU notes, VMCOREINFO."""
        areas: list[CpuNotes | NoteArea] = [*self.cpus, self.vmcoreinfo]
        return RangeSet.of(PhysRange.sized(a.addr, a.size).outward(PAGE_SIZE) for a in areas)

    @property
    def totalram(self) -> int:
        """totalram_pages, in bytes."""
        return self.memory_map.whole_page_ram(PAGE_SIZE).size - self.reserved.size
