"""Unpack one raw block of Snappy (google/snappy, format_description.txt)."""

from __future__ import annotations

from pykexec.dump.lzo import copy_match


def decompress(data: bytes, size: int) -> bytes:
    """Unpack at most `size` bytes of the block. Raises ValueError or IndexError for a damaged
    one."""
    length, at = _preamble(data)
    if length > size:
        raise ValueError("it unpacks to more than a page")
    out = bytearray()
    while at < len(data):
        tag = data[at]
        at += 1
        if not tag & 3:
            count = tag >> 2
            if count >= 60:
                width = count - 59
                count = int.from_bytes(data[at : at + width], "little")
                at += width
            part = data[at : at + count + 1]
            if len(part) != count + 1 or len(out) + len(part) > length:
                raise ValueError("literals outside of the page")
            out += part
            at += count + 1
            continue
        if tag & 3 == 1:
            count = (tag >> 2 & 7) + 4
            distance = (tag >> 5) << 8 | data[at]
            at += 1
        else:
            width = 2 if tag & 3 == 2 else 4
            count = (tag >> 2) + 1
            distance = int.from_bytes(data[at : at + width], "little")
            at += width
        if not 0 < distance <= len(out) or len(out) + count > length:
            raise ValueError("a match outside of the page")
        copy_match(out, distance, count)
    return bytes(out)


def _preamble(data: bytes) -> tuple[int, int]:
    """The unpacked size, a varint of at most 32 bits, and where it ends."""
    value = 0
    for at in range(5):
        value |= (data[at] & 0x7F) << 7 * at
        if data[at] < 0x80:
            return value, at + 1
    raise ValueError("no size at the beginning")
