"""struct kexec_segment and the segment table: the arguments of kexec_load(2)."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from pykexec.abi.kexec import KexecFlag
from pykexec.frozen import dataclass
from pykexec.memory.ranges import PhysRange

if TYPE_CHECKING:
    from pykexec.images.contents import Contents
    from pykexec.placement.role import Role

NO_FLAGS = KexecFlag(0)


class Source(StrEnum):
    """Where a segment's bytes come from."""

    FILE = "file"
    BUILT = "built"
    MEMORY_ONLY = "memory-only"


@dataclass(frozen=True, slots=True)
class Segment:
    """One piece: `bufsz` bytes of `buf` at `mem`, zeros up to `memsz` (bytes, page multiples)."""

    name: str
    mem: int
    memsz: int
    why: str
    buf: Contents | None = None
    source: Source = Source.MEMORY_ONLY
    role: Role | None = None
    """None in a table that comes from no plan."""

    @property
    def bufsz(self) -> int:
        """Bytes of contents; the rest of memsz is zeros."""
        return self.buf.size if self.buf else 0

    @property
    def end(self) -> int:
        """The address after the segment, also for an empty one, which has no range."""
        return self.mem + self.memsz

    @property
    def range(self) -> PhysRange:
        return PhysRange.sized(self.mem, self.memsz)

    def pages(self, page_size: int) -> int:
        """The number of pages of `page_size` bytes that it needs."""
        return -(-self.memsz // page_size)


@dataclass(frozen=True, slots=True)
class SegmentTable:
    """All pieces in address order, the entry (physical address) and the flags."""

    segments: tuple[Segment, ...]
    entry: int
    flags: KexecFlag = NO_FLAGS

    def named(self, name: str) -> Segment | None:
        """The first segment with this name."""
        return next((segment for segment in self.segments if segment.name == name), None)

    def pages(self, page_size: int) -> int:
        """The number of pages of all segments."""
        return sum(segment.pages(page_size) for segment in self.segments)
