"""Small machines, and their memory for tests: a dict of page to bytes, from the raw file.

Nothing here uses pykexec's own code for memory, page lists or dumps.
"""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

from pykexec.memory.ranges import RangeSet

PAGE = 4096
MIB = 1 << 20


def page_noise(addr: int) -> bytes:
    """4096 nonzero bytes that no other page has."""
    return hashlib.shake_128(b"page %d" % addr).digest(PAGE)


def addresses(spans: RangeSet) -> list[int]:
    """The addresses of all pages."""
    return [addr for span in spans for addr in range(span.start, span.end, PAGE)]


def fill_pages(folder: Path, pages: list[int]) -> dict[int, bytes]:
    """Write noise to these addresses of the machine's memory, as its user would."""
    contents = {addr: page_noise(addr) for addr in pages}
    with open(folder / "ram", "r+b") as ram:
        for addr, data in contents.items():
            ram.seek(addr)
            ram.write(data)
    return contents


def raw_pages(folder: Path, pages: list[int]) -> dict[int, bytes]:
    """The contents of the file at these addresses."""
    with open(folder / "ram", "rb") as ram:
        found = {}
        for addr in pages:
            ram.seek(addr)
            found[addr] = ram.read(PAGE).ljust(PAGE, b"\0")
        return found


def core_pages(vmcore: Path) -> dict[int, list[bytes]]:
    """Every page in a dump by original physical address, with all places that claim to be it."""
    raw_size = os.path.getsize(vmcore)
    with open(vmcore, "rb") as file:
        header = struct.unpack("<16sHHIQQQIHHHHHH", file.read(64))
        assert header[0][:4] == b"\x7fELF"
        assert header[1] == 4, "not a core file"
        table = [struct.unpack("<IIQQQQQQ", file.read(56)) for _ in range(header[10])]
        found: dict[int, list[bytes]] = {}
        for kind, _, offset, _, paddr, filesz, memsz, _ in table:
            if kind != 1:
                continue
            assert filesz == memsz
            assert offset + filesz <= raw_size
            for at in range(0, memsz, PAGE):
                file.seek(offset + at)
                found.setdefault(paddr + at, []).append(file.read(PAGE))
    return found


def first_difference(expected: dict[int, bytes], found: dict[int, list[bytes]]) -> str:
    """ "" if each expected page is found exactly once and is correct; otherwise a short description
    of the first that is not (a failing test must not print megabytes)."""
    for addr, contents in expected.items():
        places = found.get(addr, [])
        if places != [contents]:
            right = sum(place == contents for place in places)
            return f"page {addr:#x}: {len(places)} places, {right} of them right"
    return ""


def once(pages: dict[int, bytes]) -> dict[int, list[bytes]]:
    """Pages in the form of `core_pages`."""
    return {addr: [contents] for addr, contents in pages.items()}
