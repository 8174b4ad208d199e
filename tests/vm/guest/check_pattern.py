"""Find the pages of `pattern` in a vmcore: on the host, or in the capture kernel.

python3 -m guest.check_pattern FRAMES /proc/vmcore     prints a Verdict as JSON
"""

from __future__ import annotations

import dataclasses
import json
import struct
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .pattern import MAGIC, PAGE, page

CHUNK = 2 << 20
PT_LOAD = 1
# The kernel's own mapping of its image. kexec-tools adds a PT_LOAD for it, which shows pages a
# second time, including those of init code and gaps, which have long been freed and reused.
X86_IMAGE = range(0xFFFFFFFF80000000, 0xFFFFFFFFFF000000)
EM_AARCH64 = 183
ARM64_MIDDLES = {48: 0xFFFF800000000000, 47: 0xFFFFC00000000000}
"""Where the direct map ends and the image may begin, by the bits of an address; 52 bits are as 48.
Addresses of 47 bits (pages of 16 KiB) have their direct map above the other's end."""
EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
PHDR = struct.Struct("<IIQQQQQQ")


@dataclass(frozen=True)
class Verdict:
    """How the pages of the pattern appear in a vmcore; every field but `loads` counts pages.

    Of the `expected` pages, `intact` are at their own address exactly once, `repeated` more than
    once, and `missing` not at all. In addition, complete pages of the pattern were `elsewhere` (at
    another address: a copy), `unlisted` (at their address, but not in the list: left behind by a
    page that moved), and `broken`. `loads` is the number of PT_LOADs read.
    """

    expected: int
    intact: int
    repeated: int
    missing: int
    elsewhere: int
    unlisted: int
    broken: int
    loads: int


def program_headers(core: BinaryIO) -> list[tuple[int, int, int]]:
    """The PT_LOADs of memory in a core file: physical address, file offset, size, in bytes.

    The one that shows the kernel image at its virtual address is left out: it is a second view.
    """
    core.seek(0)
    header = EHDR.unpack(core.read(EHDR.size))
    if header[0][:6] != b"\x7fELF\x02\x01":
        raise ValueError(f"no 64-bit ELF file: it starts with {header[0][:6].hex(' ')}")
    offset, count = header[5], header[10]
    core.seek(offset)
    table = b""
    while len(table) < count * PHDR.size and (got := core.read(count * PHDR.size - len(table))):
        table += got
    loads = [row for row in PHDR.iter_unpack(table) if row[0] == PT_LOAD]
    image = image_addresses(header[2], [vaddr for _, _, _, vaddr, *_ in loads])
    return [
        (addr, offset, size) for _, _, offset, vaddr, addr, size, *_ in loads if vaddr not in image
    ]


def image_addresses(machine: int, vaddrs: list[int]) -> range:
    """Where the kernel shows its image, by e_machine."""
    if machine != EM_AARCH64:
        return X86_IMAGE
    bits = 48 if min(vaddrs, default=0) < ARM64_MIDDLES[48] else 47
    return range(ARM64_MIDDLES[bits], 1 << 64)


def pattern_pages(core: BinaryIO, addr: int, offset: int, size: int) -> Iterator[tuple[int, bytes]]:
    """Pages in one PT_LOAD that start like the pattern: physical address, contents."""
    core.seek(offset)
    end = addr + size
    while addr < end:
        # A chunk ends at a page boundary, so that no page is split.
        wanted = min(CHUNK - addr % PAGE, end - addr)
        chunk = bytearray()
        while len(chunk) < wanted and (got := core.read(wanted - len(chunk))):
            chunk += got
        if len(chunk) < wanted:
            raise EOFError(f"the file ends {wanted - len(chunk):#x} before {addr + wanted:#x}")
        found = chunk.find(MAGIC)
        while found >= 0:
            if (addr + found) % PAGE == 0:
                yield addr + found, bytes(chunk[found : found + PAGE])
            found = chunk.find(MAGIC, found + len(MAGIC))
        addr += wanted


def check(frames: bytes, core: BinaryIO) -> Verdict:
    """Read all of a vmcore, and compare it with the list that `pattern` wrote."""
    seen = dict.fromkeys(array("Q", frames), 0)
    elsewhere = unlisted = broken = 0
    loads = program_headers(core)
    for load in loads:
        for addr, contents in pattern_pages(core, *load):
            if contents == page(addr):
                if addr in seen:
                    seen[addr] += 1
                else:
                    unlisted += 1
            elif contents == page(int.from_bytes(contents[16:24], "little")):
                elsewhere += 1
            else:
                broken += 1
    times = list(seen.values())
    return Verdict(
        expected=len(seen),
        intact=times.count(1),
        repeated=sum(count > 1 for count in times),
        missing=times.count(0),
        elsewhere=elsewhere,
        unlisted=unlisted,
        broken=broken,
        loads=len(loads),
    )


def main(frames: str, core: str) -> None:
    # Unbuffered: /proc/vmcore is read in pieces of the size above.
    with open(core, "rb", buffering=0) as file:
        verdict = check(Path(frames).read_bytes(), file)
    print(json.dumps(dataclasses.asdict(verdict)))


if __name__ == "__main__":
    main(*sys.argv[1:])
