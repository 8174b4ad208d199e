"""The minimum size of the reserved region: the kernel's own pages, and those of the stub.

kernel/kexec_core.c:kimage_alloc_crash_control_pages carves from the region's start and
skips segments; arch/x86/mm/ident_map.c has the page tables. See kernel-contract 6.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.abi.x86.page import PAGE_SIZE
from pykexec.frozen import dataclass
from pykexec.memory.map import MemoryMap, RangeType
from pykexec.memory.ranges import GIB, RangeSet, align_up

if TYPE_CHECKING:
    from pykexec.machine import Unknown

CONTROL_PAGES = 3
"""Up to 6.13 two pages aligned to 8 KiB, so that one may be lost; later one, and one for the
PGD."""
PUD_SPAN, PMD_SPAN = 512 * GIB, GIB
MAPPED = (RangeType.RAM, RangeType.ACPI, RangeType.NVS)


@dataclass(frozen=True, slots=True)
class Need:
    """One part that takes pages of the region."""

    name: str
    pages: int


@dataclass(frozen=True, slots=True)
class ReservationNeed:
    """The terms, and their sum in bytes."""

    terms: tuple[Need, ...]

    @property
    def size(self) -> int:
        return sum(term.pages for term in self.terms) * PAGE_SIZE


def reservation_need(
    memory_map: MemoryMap, cpu_flags: frozenset[str] | Unknown, stub_size: int
) -> ReservationNeed:
    """For a stub of `stub_size` bytes on this machine; unknown CPU flags count as not set.

    Observed on 6.1 without 1 GiB pages, with a segment of one page: 28 KiB with 1 GiB of RAM, 32
    KiB with 2 GiB.
    """
    flags = cpu_flags or frozenset[str]()
    spans = _mapped_ranges(memory_map)
    return ReservationNeed(
        (
            Need("control code", CONTROL_PAGES),
            Need("page tables: P4D", 1 if "la57" in flags else 0),
            Need("page tables: PUD", touched(spans, PUD_SPAN)),
            Need("page tables: PMD", pmd_pages(spans, "pdpe1gb" in flags)),
            Need("VMCOREINFO", 1),
            Need("stub", align_up(stub_size, PAGE_SIZE) // PAGE_SIZE),
        )
    )


def _mapped_ranges(memory_map: MemoryMap) -> RangeSet:
    """Memory mapped by init_pgtable and map_acpi_tables: RAM, ACPI tables, NVS."""
    mapped = RangeSet.of(item.range for item in memory_map.ranges if item.type in MAPPED)
    return mapped | memory_map.driver_ram


def touched(spans: RangeSet, block: int) -> int:
    """The number of aligned blocks of `block` bytes that the ranges touch."""
    count, behind = 0, 0
    for span in spans:
        end = align_up(span.end, block) // block
        count += end - max(span.start // block, behind)
        behind = end
    return count


def pmd_pages(spans: RangeSet, has_1g_pages: bool) -> int:
    """One page for each touched GiB that is not mapped by a single 1 GiB leaf."""
    every = touched(spans, PMD_SPAN)
    return every - spans.inward(PMD_SPAN).size // PMD_SPAN if has_1g_pages else every
