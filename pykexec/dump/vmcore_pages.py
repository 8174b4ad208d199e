"""Compares the address in each self-describing page of a dump with the address at which the dump
shows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykexec.crash.pattern import MAGIC, PATTERN_SIZE, named_addr, pattern_page
from pykexec.dump.watch import Watch, unwatched
from pykexec.images.contents import data_extents
from pykexec.memory.ranges import PhysRange, RangeSet, align_down, align_up

if TYPE_CHECKING:
    from pykexec.crash.elfcorehdr import ProgramHeader
    from pykexec.dump.core_file import CoreFile

CHUNK = 4 << 20


@dataclass(frozen=True, slots=True)
class PatternCount:
    """Self-describing pages, counted by the address that they name."""

    right: int = 0
    """Shown at their own address."""
    copies: int = 0
    """Shown at another address too: the contents of a backup frame, seen at that frame."""
    lost: int = 0
    """Shown only at another address."""
    broken: int = 0
    """Pages that start with the magic, but are damaged."""
    first_bad: int | None = None
    """Physical address of the first one lost or broken."""

    @property
    def whole(self) -> bool:
        return not self.lost and not self.broken


def direct_loads(core: CoreFile) -> list[ProgramHeader]:
    """The PT_LOADs by physical address, without the second mapping of the kernel's text."""
    loads = (item for item in core.loads if not is_kernel_text(core, item))
    return sorted(loads, key=lambda item: item.p_paddr)


def is_kernel_text(core: CoreFile, item: ProgramHeader) -> bool:
    """Text is shown a second time at its own virtual addresses; memory without one has -1."""
    return item.p_vaddr >= core.text_start and item.p_vaddr != (1 << 64) - 1


def count_patterns(core: CoreFile, watch: Watch = unwatched) -> PatternCount:
    """Compare every self-describing page with the address at which the dump shows it. Correct ones
    come in order, and are kept as runs: a dump may have a hundred million."""
    runs: list[PhysRange] = []
    elsewhere: set[int] = set()
    broken, first_broken = 0, None
    for addr, page in _self_describing(core, watch):
        named = named_addr(page)
        if page != pattern_page(named):
            broken += 1
            first_broken = addr if first_broken is None else first_broken
        elif named != addr:
            elsewhere.add(named)
        elif runs and runs[-1].end == addr:
            runs[-1] = PhysRange(runs[-1].start, addr + PATTERN_SIZE)
        else:
            runs.append(PhysRange.sized(addr, PATTERN_SIZE))
    right = RangeSet.of(runs)
    lost = [named for named in elsewhere if named not in right]
    bad = min([*lost, *([] if first_broken is None else [first_broken])], default=None)
    copies = len(elsewhere) - len(lost)
    return PatternCount(right.size // PATTERN_SIZE, copies, len(lost), broken, bad)


def _self_describing(core: CoreFile, watch: Watch) -> Iterator[tuple[int, bytes]]:
    """(physical address, contents) of the whole pages that start with the magic. Holes of the file
    are not read."""
    loads = direct_loads(core)
    done, total = 0, sum(item.p_filesz for item in loads)
    for item in loads:
        for start, data in _whole_pages(core, item):
            watch("memory", (done + start - item.p_paddr) / total)
            at = data.find(MAGIC)
            while at >= 0:
                if at % PATTERN_SIZE == 0:
                    yield start + at, data[at : at + PATTERN_SIZE]
                at = data.find(MAGIC, at + 1 if at % PATTERN_SIZE else at + PATTERN_SIZE)
        done += item.p_filesz


def _whole_pages(core: CoreFile, item: ProgramHeader) -> Iterator[tuple[int, bytes]]:
    """(physical address, bytes) of the pages of a PT_LOAD that are not entirely in holes."""
    pages = (
        PhysRange.sized(item.p_paddr, item.p_filesz).inward(PATTERN_SIZE) if item.p_filesz else None
    )
    if pages is None:
        return
    shift = item.p_offset - item.p_paddr
    done = pages.start
    for start, end in data_extents(core.file.fd, pages.start + shift, pages.end + shift):
        done = max(done, align_down(start - shift, PATTERN_SIZE))
        last = min(align_up(end - shift, PATTERN_SIZE), pages.end)
        while done < last:
            step = min(CHUNK, last - done)
            yield done, core.file.read(done + shift, step)
            done += step
