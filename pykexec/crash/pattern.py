"""Pages that say where they belong: magic, their own physical address, filler, and the
complement of the address. The guests of tests/vm write the same."""

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
    """The address that a page which starts with the magic names; anything in a broken one."""
    addr: int = ADDRESS.unpack_from(page, len(MAGIC))[0]
    return addr
