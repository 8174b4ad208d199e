"""Files and values from arguments: a test says what matters and gets bytes."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
from collections.abc import Iterable
from pathlib import Path

import pytest

from pykexec.abi.bootparam import SETUP_HEADER_OFFSET, setup_header
from pykexec.images.contents import Built
from pykexec.machine import CpuNotes, Machine, NoteArea, Unknown
from pykexec.memory.map import MemoryMap, MemoryRange, RangeType
from pykexec.memory.ranges import PhysRange, RangeSet
from pykexec.placement.segment import Segment, Source

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def make_bzimage(
    payload: bytes = b"\xf4" * 0x3000,
    *,
    setup_sects: int = 1,
    version: int = 0x20F,
    loadflags: int = 1,
    xloadflags: int = 3,
    init_size: int = 0x100000,
    alignment: int = 0x200000,
    pref_address: int = 0x1000000,
    cmdline_size: int = 2047,
    syssize: int | None = None,
    banner: bytes = b"6.1.0-test (builder) #1\0",
    magic: bytes = b"HdrS",
    boot_flag: int = 0xAA55,
    jump: int = 0x6A,
) -> bytes:
    """A bzImage whose header says what it is told to say."""
    setup = bytearray((max(setup_sects, 1) + 1) * 512)
    fields = setup_header.parse(bytes(setup_header.sizeof()))
    fields.setup_sects = setup_sects
    fields.syssize = len(payload) // 16 if syssize is None else syssize
    fields.boot_flag, fields.jump, fields.header = boot_flag, bytes((0xEB, jump)), magic
    fields.version, fields.loadflags, fields.xloadflags = version, loadflags, xloadflags
    fields.init_size, fields.kernel_alignment = init_size, alignment
    fields.pref_address, fields.cmdline_size = pref_address, cmdline_size
    fields.relocatable_kernel, fields.initrd_addr_max = 1, 0x7FFFFFFF
    fields.kernel_version = 0x300 - 0x200 if banner else 0
    header = setup_header.build(fields)
    setup[SETUP_HEADER_OFFSET : SETUP_HEADER_OFFSET + len(header)] = header
    setup[0x300 : 0x300 + len(banner)] = banner
    return bytes(setup) + payload


def write(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def ram(*spans: tuple[int, int]) -> list[MemoryRange]:
    return [MemoryRange(PhysRange(*span), RangeType.RAM) for span in spans]


def reserved(*spans: tuple[int, int]) -> list[MemoryRange]:
    return [MemoryRange(PhysRange(*span), RangeType.RESERVED) for span in spans]


def pc_map(size: int = GIB) -> MemoryMap:
    """A BIOS machine with `size` bytes of RAM below 4 GiB."""
    return MemoryMap.of(
        [
            *ram((0, 0x9FC00), (MIB, size - 0x20000)),
            *reserved((0x9FC00, 0xA0000), (0xF0000, MIB), (size - 0x20000, size)),
        ]
    )


def make_machine(
    memory_map: MemoryMap | None = None,
    *,
    totalram: int | Unknown | None = None,
    crash_kernel: Iterable[PhysRange] = (),
    kernel_image: Iterable[PhysRange] = (),
    cmdline: str | Unknown = "BOOT_IMAGE=/vmlinuz root=/dev/vda1 crashkernel=64K quiet",
) -> Machine:
    """The facts of a machine of two CPUs."""
    found = memory_map or pc_map()
    return Machine(
        name="test",
        memory_map=found,
        memory_map_source="test",
        totalram=found.ram.size if totalram is None else totalram,
        crash_kernel=RangeSet.of(crash_kernel),
        kernel_image=RangeSet.of(kernel_image),
        cmdline=cmdline,
        cpus=(CpuNotes(0, 0x1100000, 368), CpuNotes(1, 0x1101000, 368)),
        vmcoreinfo=NoteArea(0x1200000, 4132),
        page_offset_base=0xFFFF888000000000,
    )


def segment(
    name: str, mem: int, memsz: int, data: bytes = b"", why: str = "the test says so"
) -> Segment:
    buf = Built(data) if data else None
    return Segment(name, mem, memsz, why, buf, Source.BUILT if buf else Source.MEMORY_ONLY)


def iomem_line(start: int, last: int, name: str, depth: int = 0) -> str:
    return f"{'  ' * depth}{start:08x}-{last:08x} : {name}\n"


def words(*values: int) -> bytes:
    """Little-endian 64-bit words."""
    return struct.pack(f"<{len(values)}Q", *values)


def pack(data: bytes, codec: str) -> bytes:
    """`data` as `codec` (a name in CODECS) compresses it; skips without the package."""
    if codec == "gzip":
        return gzip.compress(data, 1, mtime=0)
    if codec == "xz":
        return lzma.compress(data, preset=0)
    if codec == "lzma":
        return lzma.compress(data, lzma.FORMAT_ALONE, preset=0)
    if codec == "bzip2":
        return bz2.compress(data, 1)
    if codec == "zstd":
        packed: bytes = pytest.importorskip("zstandard").compress(data)
        return packed
    if codec == "lz4":
        frame: bytes = pytest.importorskip("lz4.frame").compress(data)
        return frame
    assert codec == "lz4 (legacy)", codec
    block = pytest.importorskip("lz4.block")
    out = [b"\x02\x21\x4c\x18"]
    for at in range(0, len(data), 8 * MIB):
        packed = block.compress(data[at : at + 8 * MIB], store_size=False)
        out.append(struct.pack("<I", len(packed)) + packed)
    return b"".join(out)
