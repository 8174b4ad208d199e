"""How small a crashkernel= reservation may be: what the kernel takes from it for itself.

kernel/kexec_core.c:kimage_alloc_crash_control_pages carves everything out of the region:
control code, the page tables of an identity map over all RAM, a copy of VMCOREINFO.
"""

from __future__ import annotations

from collections.abc import Iterable

from pykexec.abi.kexec import PAGE_SIZE
from pykexec.memory.map import MemoryMap, RangeType
from pykexec.memory.ranges import PhysRange, RangeSet, align_up

PUD_SPAN = 512 << 30
PMD_SPAN = 1 << 30
CONTROL_PAGES = 2
"""Page directory and control code, 8 KiB aligned up to 6.13, two single pages since."""
VMCOREINFO_PAGES = 1
ALIGNMENT_PAGES = 1
"""Lost where the segment in front of the 8 KiB block has an odd number of pages."""
MAPPED = (RangeType.RAM, RangeType.ACPI, RangeType.NVS)
"""arch/x86/kernel/machine_kexec_64.c:init_pgtable, map_acpi_tables."""


def reservation_need(memory_map: MemoryMap, cpu_flags: Iterable[str], segment_pages: int) -> int:
    """Bytes of the smallest region that takes an image of so many pages.

    Seen: 28 KiB for one page with 1 GiB of RAM on 6.1 without 1 GiB pages, 32 KiB with 2 GiB.
    """
    pages = CONTROL_PAGES + VMCOREINFO_PAGES + ALIGNMENT_PAGES + segment_pages
    return (pages + page_tables(memory_map, frozenset(cpu_flags))) * PAGE_SIZE


def page_tables(memory_map: MemoryMap, cpu_flags: frozenset[str]) -> int:
    """Pages below the page directory: ident_map.c maps with 1 GiB leafs only where the
    CPU has them and a whole GiB is in one range, with 2 MiB leafs elsewhere."""
    mapped = RangeSet()
    for kind in MAPPED:
        mapped = mapped | memory_map.of_type(kind)
    gigabytes = touched(mapped, PMD_SPAN)
    if "pdpe1gb" in cpu_flags:
        whole = {start for span in mapped for start in whole_blocks(span)}
        gigabytes -= whole
    return len(gigabytes) + len(touched(mapped, PUD_SPAN)) + ("la57" in cpu_flags)


def touched(ranges: RangeSet, block: int) -> set[int]:
    """Starts of the aligned blocks that any of the ranges reaches into."""
    return {
        start
        for span in ranges
        for start in range(span.start // block * block, align_up(span.end, block), block)
    }


def whole_blocks(span: PhysRange) -> range:
    inside = span.inward(PMD_SPAN)
    return range(inside.start, inside.end, PMD_SPAN) if inside else range(0)
