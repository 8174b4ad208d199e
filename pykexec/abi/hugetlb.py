"""Huge pages and pagemap: include/linux/hugetlb.h, Documentation/admin-guide/mm/pagemap.rst."""

from __future__ import annotations

HUGE_PAGE_SIZE = 2 << 20
"""Bytes mapped by one PMD of x86_64."""

GIB_PAGE_SIZE = 1 << 30
"""Bytes mapped by one PUD, on CPUs with pdpe1gb."""

SECTION_SIZE = 128 << 20
"""SECTION_SIZE_BITS of x86_64 (asm/sparsemem.h): the unit in which memmap is allocated."""

PM_ENTRY_BYTES = 8
PM_PRESENT = 1 << 63
PM_PFRAME_MASK = (1 << 55) - 1
