"""Huge pages and pagemap: include/linux/hugetlb.h, Documentation/admin-guide/mm/pagemap.rst."""

from __future__ import annotations

HUGE_PAGE_SIZE = 2 << 20
"""Bytes of the huge pages that hold an image, and of a slot of its window. All 64-bit architectures
that pykexec knows have them, whatever the size of other pages: a PMD of x86_64, and of arm64 with
pages of 4 KiB; on arm64 with 16 or 64 KiB contiguous PTEs (arch/arm64/mm/hugetlbpage.c)."""

GIB_PAGE_SIZE = 1 << 30
"""Bytes mapped by one PUD, on CPUs with pdpe1gb."""

SECTION_SIZE = 128 << 20
"""SECTION_SIZE_BITS of x86_64 (asm/sparsemem.h): the unit in which memmap is allocated."""

PM_ENTRY_BYTES = 8
PM_PRESENT = 1 << 63
PM_PFRAME_MASK = (1 << 55) - 1
