"""Page tables for a stub that a 32-bit kernel enters."""

from __future__ import annotations

import struct

from pykexec.abi.x86.page import PAGE_SIZE

PAGE_TABLES_SIZE = 6 * PAGE_SIZE
PRESENT_WRITABLE, LARGE = 0x3, 0x80
LARGE_PAGE = 1 << 21
ENTRIES = 512
"""Entries in one page of page tables."""


def identity_map(at: int) -> bytes:
    """Page tables at the address `at` that map the first 4 GiB, which contain all parts of a 32-bit
    kernel's image, in 2 MiB pages: one page of each upper level, then four directories."""
    upper = [at + PAGE_SIZE | PRESENT_WRITABLE]
    gigabytes = [at + number * PAGE_SIZE | PRESENT_WRITABLE for number in range(2, 6)]
    pages = [addr | LARGE | PRESENT_WRITABLE for addr in range(0, 1 << 32, LARGE_PAGE)]
    levels = (upper + [0] * (ENTRIES - 1), gigabytes + [0] * (ENTRIES - 4), pages)
    return b"".join(struct.pack(f"<{len(level)}Q", *level) for level in levels)
