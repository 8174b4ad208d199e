"""struct kimage: a loaded image, and the frames that it holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykexec.abi.x86.page import PAGE_SIZE
from pykexec.backends.page_list import PageList, read_page_list
from pykexec.errors import DoesNotFit, KexecError
from pykexec.memory.ranges import PhysRange, RangeSet

if TYPE_CHECKING:
    from pykexec.backends.simulated.kernel.ram import Ram


class NotInImage(KexecError):
    """An address outside all segments of the image."""

    code = "not-in-image"


@dataclass(frozen=True, slots=True)
class LoadedSegment:
    """struct kexec_segment in the image; addresses and bytes."""

    name: str
    mem: int
    memsz: int
    bufsz: int

    @property
    def range(self) -> PhysRange:
        return PhysRange.sized(self.mem, self.memsz)


@dataclass(frozen=True)
class KImage:
    """A loaded image. The page list itself is in memory, where `head` points."""

    start: int
    """Entry address."""
    head: int
    """First word of the page list; only IND_DONE for an image that runs where it is."""
    segments: tuple[LoadedSegment, ...]
    control_pages: RangeSet
    """Control code, page tables, swap page (and for a crash image the vmcoreinfo copy)."""
    swap_page: int | None
    """Address; None for an image in the reservation."""
    parked: RangeSet
    """dest_pages: destinations that were allocated too early and not used since."""
    by_normal: bool = False
    """KEXEC_CRASH_BY_NORMAL: started by a panic, with pages always swapped."""

    @property
    def in_reservation(self) -> bool:
        """Whether nothing is moved at the switch."""
        return self.swap_page is None

    @property
    def pages(self) -> int:
        return sum(-(-segment.memsz // PAGE_SIZE) for segment in self.segments)

    def segment_at(self, addr: int) -> LoadedSegment | None:
        """The segment that contains this byte."""
        return next((item for item in self.segments if item.memsz and addr in item.range), None)

    def page_list(self, ram: Ram) -> PageList:
        """Read from memory. Raises BadPageList if it was overwritten."""
        return read_page_list(ram.read, self.head, self.pages, PAGE_SIZE)

    def frames(self, ram: Ram) -> RangeSet:
        """All frames that kimage_free frees; none for an image in the reservation."""
        if self.in_reservation:
            return RangeSet()
        found = self.page_list(ram)
        addresses = (*(source for _, source in found.pairs), *found.list_pages)
        return frames_of(addresses) | self.control_pages | self.parked

    def where(self, ram: Ram, span: PhysRange) -> Iterator[tuple[int, PhysRange]]:
        """(offset in `span`, place of those bytes before the switch), piece by piece."""
        if self.in_reservation:
            yield 0, span
            return
        for run in self.page_list(ram).backup_map:
            part = run.dest_range.intersect(span)
            if part:
                source = run.source + part.start - run.dest
                yield part.start - span.start, PhysRange.sized(source, part.size)


def bind(image: KImage, ram: Ram, addr: int, headers: bytes) -> None:
    """Write finished ELF core headers to the source pages of `addr`: the kernel of the proposal
    exports the backup map after the load, and then accepts them. Raises NotInImage, DoesNotFit."""
    segment = image.segment_at(addr)
    if segment is None:
        raise NotInImage(f"no segment of the loaded image has {addr:#x}", addr=addr)
    room = segment.range.end - addr
    if len(headers) > room:
        raise DoesNotFit(
            f"{len(headers):#x} bytes of ELF core headers do not fit into segment "
            f'"{segment.name}" ({room:#x} bytes from {addr:#x})',
            segment=segment.name,
        )
    if headers:
        for offset, now in image.where(ram, PhysRange.sized(addr, len(headers))):
            ram.write(now.start, headers[offset : offset + now.size])


def frames_of(addresses: tuple[int, ...]) -> RangeSet:
    """Whole frames at these addresses."""
    runs: list[PhysRange] = []
    start = end = -1
    for address in sorted(addresses):
        if address == end:
            end += PAGE_SIZE
            continue
        if start >= 0:
            runs.append(PhysRange(start, end))
        start, end = address, address + PAGE_SIZE
    if start >= 0:
        runs.append(PhysRange(start, end))
    return RangeSet.of(runs)
