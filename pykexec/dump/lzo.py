"""Unpack one block of LZO1X (Documentation/staging/lzo.rst). Written for pages of a dump: the
result is small, and its size is known."""

from __future__ import annotations


def decompress(data: bytes, size: int) -> bytes:
    """Unpack at most `size` bytes of the block. Raises ValueError or IndexError for a damaged
    one."""
    out = bytearray()
    at = 0
    literals = 0
    """Literals copied by the last instruction: 0 to 3, or 4 for a long run."""
    if data[0] > 17:
        count = data[0] - 17
        out += data[1 : 1 + count]
        at, literals = 1 + count, min(count, 4)
    while True:
        code = data[at]
        at += 1
        if code < 16 and not literals:  # a long run of literals
            count, at = _run_length(data, at, code, 15)
            out += data[at : at + count + 3]
            at, literals = at + count + 3, 4
            if len(out) > size:
                raise ValueError("it unpacks to more than a page")
            continue
        if code < 16:
            low = data[at]
            at += 1
            follow = code & 3
            if literals == 4:
                distance, count = (low << 2) + (code >> 2) + 2049, 3
            else:
                distance, count = (low << 2) + (code >> 2) + 1, 2
        elif code < 64:
            count, at = _run_length(
                data, at, code & (7 if code < 32 else 31), 7 if code < 32 else 31
            )
            word = data[at] | data[at + 1] << 8
            at += 2
            follow = word & 3
            count += 2
            if code < 32:
                distance = 16384 + ((code & 8) << 11) + (word >> 2)
                if distance == 16384:
                    return _within(out, size)
            else:
                distance = (word >> 2) + 1
        else:
            low = data[at]
            at += 1
            follow = code & 3
            distance = (low << 3) + (code >> 2 & 7) + 1
            count = 5 + (code >> 5 & 3) if code >= 128 else 3 + (code >> 5 & 1)
        if distance > len(out) or len(out) + count > size:
            raise ValueError("a match outside of the page")
        copy_match(out, distance, count)
        out += data[at : at + follow]
        at, literals = at + follow, follow


def _within(out: bytearray, size: int) -> bytes:
    if len(out) > size:
        raise ValueError("it unpacks to more than a page")
    return bytes(out)


def _run_length(data: bytes, at: int, short: int, most: int) -> tuple[int, int]:
    """A length whose short form is 0 continues in further bytes: zeros count 255 each."""
    if short:
        return short, at
    start = at
    while not data[at]:
        at += 1
    return most + 255 * (at - start) + data[at], at + 1


def copy_match(out: bytearray, distance: int, count: int) -> None:
    """Copy `count` bytes from `distance` bytes back; source and destination may overlap."""
    start = len(out) - distance
    if distance >= count:
        out += out[start : start + count]
        return
    pattern = bytes(out[start:])
    out += (pattern * (count // distance + 1))[:count]
