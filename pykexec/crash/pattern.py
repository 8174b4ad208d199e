"""Self-describing pages: a magic, their own physical address, filler, and the complement of the
address. The guests in tests/vm write the same."""

from __future__ import annotations

import struct

PATTERN_SIZE = 4096
"""Bytes; a larger page of a kernel contains several."""
MAGIC = b"PYKEXEC-PATTERN\n"
ADDRESS = struct.Struct("<Q")
FILLER = b"crash by normal " * ((PATTERN_SIZE - len(MAGIC) - 2 * ADDRESS.size) // 16)
ALL_BITS = (1 << 64) - 1


def pattern_page(addr: int) -> bytes:
    """The PATTERN_SIZE bytes at this physical address."""
    return MAGIC + ADDRESS.pack(addr) + FILLER + ADDRESS.pack(~addr & ALL_BITS)


def named_addr(page: bytes) -> int:
    """The address in a page that starts with the magic; arbitrary if the page is damaged."""
    addr: int = ADDRESS.unpack_from(page, len(MAGIC))[0]
    return addr
