"""Self-describing pages: a magic, their own physical address, filler, and the complement of the
address. The guests in tests/vm write the same."""

from __future__ import annotations

import struct

from pykexec.abi.kexec import PAGE_SIZE

MAGIC = b"PYKEXEC-PATTERN\n"
ADDRESS = struct.Struct("<Q")
FILLER = b"crash by normal " * ((PAGE_SIZE - len(MAGIC) - 2 * ADDRESS.size) // 16)
ALL_BITS = (1 << 64) - 1


def pattern_page(addr: int) -> bytes:
    """The contents of the page at this physical address."""
    return MAGIC + ADDRESS.pack(addr) + FILLER + ADDRESS.pack(~addr & ALL_BITS)


def named_addr(page: bytes) -> int:
    """The address in a page that starts with the magic; arbitrary if the page is damaged."""
    addr: int = ADDRESS.unpack_from(page, len(MAGIC))[0]
    return addr
