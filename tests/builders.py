"""Builds files and values from arguments: a test gives what matters, and gets bytes."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import pytest

from pykexec.abi.x86.bootparam import SETUP_HEADER_OFFSET, setup_header
from pykexec.images.contents import Built
from pykexec.machine import CpuNotes, Machine, NoteArea, SerialConsole, Unknown
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
    relocatable: int = 1,
    code32_start: int = 0,
    packed: tuple[int, int] = (0, 0),
) -> bytes:
    """A bzImage with the given header fields. One that is not relocatable, or of a protocol before
    2.05, needs a code32_start of 0x100000."""
    setup = bytearray((max(setup_sects, 1) + 1) * 512)
    fields = setup_header.parse(bytes(setup_header.sizeof()))
    fields.setup_sects = setup_sects
    fields.syssize = len(payload) // 16 if syssize is None else syssize
    fields.boot_flag, fields.jump, fields.header = boot_flag, bytes((0xEB, jump)), magic
    fields.version, fields.loadflags, fields.xloadflags = version, loadflags, xloadflags
    fields.init_size, fields.kernel_alignment = init_size, alignment
    fields.pref_address, fields.cmdline_size = pref_address, cmdline_size
    fields.relocatable_kernel, fields.initrd_addr_max = relocatable, 0x7FFFFFFF
    fields.code32_start = code32_start
    fields.payload_offset, fields.payload_length = packed
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
    """The facts of a machine with two CPUs."""
    found = memory_map or pc_map()
    return Machine(
        name="test",
        memory_map=found,
        memory_map_source="test",
        totalram=found.ram.size if totalram is None else totalram,
        crash_kernel=RangeSet.of(crash_kernel),
        kernel_image=RangeSet.of(kernel_image),
        cmdline=cmdline,
        architecture="x86_64",
        cpus=(CpuNotes(0, 0x1100000, 368), CpuNotes(1, 0x1101000, 368)),
        vmcoreinfo=NoteArea(0x1200000, 4132),
        page_offset_base=0xFFFF888000000000,
        console=SerialConsole("ttyS0", 0x3F8, False, None, 0, "console=ttyS0"),
    )


def make_module(
    release: str = "6.1.0-40-amd64", name: str = "pykexec_region", signed: bool = False
) -> bytes:
    """The parts of a kernel module that are read: ELF magic, .modinfo, and the mark of a
    signature."""
    info = (f"license=GPL\0name={name}\0vermagic={release} SMP preempt mod_unload \0").encode()
    tail = b"signature" + bytes(12) + b"~Module signature appended~\n" if signed else b""
    return b"\x7fELF\2\1\1" + bytes(57) + info + bytes(64) + tail


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
    """`data` compressed with `codec` (a name in CODECS); skips the test without its package."""
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


def make_elf(
    loads: Iterable[tuple[int, int, bytes, int]] = ((0x100000, 0x100000, b"\xf4" * 0x100, 0x1000),),
    *,
    bits: int = 64,
    machine: int = 62,
    elf_type: int = 2,
    entry: int | None = None,
    notes: Iterable[tuple[bytes, int, bytes]] = (),
    sections: Iterable[bytes] = (),
    interp: bool = False,
    head: bytes = b"",
) -> bytes:
    """An ELF file. A load is (p_paddr, p_vaddr, bytes, p_memsz); `head` directly follows the
    headers (a multiboot header, for example) and is part of nothing else."""
    wide = bits == 64
    ehdr_size, phdr_size, shdr_size = (64, 56, 64) if wide else (52, 32, 40)
    loads, notes = list(loads), list(notes)
    note_bytes = b"".join(
        struct.pack("<III", len(owner) + 1, len(desc), kind)
        + (owner + b"\0").ljust(len(owner) + 4 & ~3, b"\0")
        + desc.ljust(len(desc) + 3 & ~3, b"\0")
        for owner, kind, desc in notes
    )
    count = len(loads) + bool(notes) + interp
    at = -(-(ehdr_size + count * phdr_size) // 8) * 8
    body = head
    rows: list[tuple[int, ...]] = []  # type, offset, vaddr, paddr, filesz, memsz
    if notes:
        body += bytes(-(at + len(body)) % 4)
        rows.append((4, at + len(body), 0, 0, len(note_bytes), len(note_bytes)))
        body += note_bytes
    for paddr, vaddr, data, memsz in loads:
        body += bytes(-(at + len(body)) % 16)
        rows.append((1, at + len(body), vaddr, paddr, len(data), memsz))
        body += data
    if interp:
        rows.append((3, at, 0, 0, 0, 0))
    names = b"\0" + b"".join(name + b"\0" for name in sections)
    section_list = list(sections)
    names_at = at + len(body)
    table_at = names_at + len(names) if section_list else 0
    headers, where = [bytes(shdr_size)], 1
    for number, name in enumerate(section_list):
        last = number == len(section_list) - 1
        fields = (where, 3 if last else 1, 0, 0, names_at, len(names), 0, 0, 1, 0)
        headers.append(struct.pack("<IIQQQQIIQQ" if wide else "<10I", *fields))
        where += len(name) + 1
    tail = names + b"".join(headers) if section_list else b""
    start = loads[0][0] if entry is None and loads else entry or 0
    shnum = len(section_list) + 1 if section_list else 0
    ident = b"\x7fELF" + bytes((2 if wide else 1, 1, 1)) + bytes(9)
    layout = "<16sHHIQQQIHHHHHH" if wide else "<16sHHIIIIIHHHHHH"
    sizes = (ehdr_size, phdr_size, count, shdr_size, shnum, max(0, shnum - 1))
    ehdr = struct.pack(layout, ident, elf_type, machine, 1, start, ehdr_size, table_at, 0, *sizes)
    phdrs = b"".join(
        struct.pack("<IIQQQQQQ", kind, 7, *rest, 0x1000)
        if wide
        else struct.pack("<IIIIIIII", kind, *rest, 7, 0x1000)
        for kind, *rest in rows
    )
    return (ehdr + phdrs).ljust(at, b"\0") + body + tail


START_KERNEL_MAP = 0xFFFFFFFF80000000
BANNER = b"Linux version 6.1.0-test (builder) #1\n\0"


def make_vmlinux(
    loads: Iterable[tuple[int, bytes, int]] = (
        (0x1000000, b"\xf4" * 0x1000 + BANNER, 0x200000),
        (0x1400000, b"data" * 0x400, 0x100000),
    ),
    *,
    bits: int = 64,
    notes: Iterable[tuple[bytes, int, bytes]] = ((b"Linux", 0x100, bytes(4)),),
    sections: Iterable[bytes] = (b".init.text", b".shstrtab"),
    base: int | None = None,
    entry: int | None = None,
) -> bytes:
    """A Linux kernel as an ELF file. A load is (p_paddr, bytes, p_memsz)."""
    offset = (START_KERNEL_MAP if bits == 64 else 0xC0000000) if base is None else base
    return make_elf(
        [(paddr, paddr + offset & (1 << 64) - 1, data, memsz) for paddr, data, memsz in loads],
        bits=bits,
        machine=62 if bits == 64 else 3,
        notes=notes,
        sections=sections,
        entry=entry,
    )


def multiboot_header(flags: int = 2, addresses: tuple[int, ...] = ()) -> bytes:
    """Version 1, with the five addresses of the a.out kludge if given."""
    words_ = (0x1BADB002, flags, -(0x1BADB002 + flags) & (1 << 32) - 1, *addresses)
    return struct.pack(f"<{len(words_)}I", *words_)


def multiboot2_header(
    *tags: tuple[int, int, bytes], architecture: int = 0, end: bool = True
) -> bytes:
    """Version 2. A tag is (type, flags, body)."""
    body = b""
    for kind, flags, data in (*tags, *([(0, 0, b"")] if end else [])):
        body += struct.pack("<HHI", kind, flags, 8 + len(data)) + data
        body += bytes(-len(body) % 8)
    length = 16 + len(body)
    checksum = -(0xE85250D6 + architecture + length) & (1 << 32) - 1
    return struct.pack("<4I", 0xE85250D6, architecture, length, checksum) + body


def make_multiboot(
    header: bytes | None = None,
    code: bytes = b"\xf4" * 0x100,
    *,
    bits: int = 32,
    addr: int = 0x100000,
    memsz: int = 0x3000,
) -> bytes:
    """An ELF file with a multiboot header before its code."""
    machine = 3 if bits == 32 else 62
    head = multiboot_header() if header is None else header
    return make_elf([(addr, addr, code, memsz)], bits=bits, machine=machine, head=head)


def make_pe(
    sections: Iterable[tuple[bytes, bytes]], machine: int = 0x8664, *, padded: int = 0x200
) -> bytes:
    """A PE file with these sections (name, contents), each padded on disk."""
    rows = list(sections)
    at = 0x80
    head_end = at + 24 + 40 * len(rows)
    where = -(-head_end // padded) * padded
    table, body = b"", b""
    for name, data in rows:
        raw = data.ljust(-(-len(data) // padded) * padded, b"\xcc")
        table += struct.pack(
            "<8sIIIIIIHHI", name, len(data), 0x1000, len(raw), where + len(body), 0, 0, 0, 0, 0
        )
        body += raw
    coff = b"PE\0\0" + struct.pack("<HHIIIHH", machine, len(rows), 0, 0, 0, 0, 0x206)
    mz = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", at)
    return (mz.ljust(at, b"\0") + coff + table).ljust(where, b"\0") + body


def make_uki(
    kernel: bytes | None = None,
    *,
    initrd: bytes = b"INITRD",
    cmdline: bytes = b"root=/dev/vda1 ro\0",
    extra: Iterable[tuple[bytes, bytes]] = (),
) -> bytes:
    """Empty sections are left out, except those in `extra`."""
    rows = [
        (b".linux", make_bzimage() if kernel is None else kernel),
        (b".initrd", initrd),
        (b".cmdline", cmdline),
    ]
    return make_pe([(b".text", b"\xf4" * 16), *(row for row in rows if row[1]), *extra])


def make_uimage(
    data: bytes | None = None,
    *,
    arch: int = 24,
    kind: int = 2,
    system: int = 5,
    comp: int = 0,
    size: int | None = None,
    name: bytes = b"Linux-6.1.0-test",
) -> bytes:
    """U-Boot's header with correct checksums, followed by a kernel."""
    body = make_bzimage() if data is None else data
    fields = (0, len(body) if size is None else size, 0x100000, 0x100000, zlib.crc32(body))
    head = struct.pack(">IIIIIII4B32s", 0x27051956, 0, *fields, system, arch, kind, comp, name)
    return head[:4] + struct.pack(">I", zlib.crc32(head)) + head[8:] + body


def make_arm64_image(
    *, flags: int = 0xA, image_size: int = 0x200000, text_offset: int = 0, body: bytes = b""
) -> bytes:
    """A raw Image, little-endian with 4K pages, that may be placed anywhere."""
    words_ = (text_offset, image_size, flags, 0, 0, 0)
    head = struct.pack("<II6Q4sI", 0x91005A4D, 0x14000000, *words_, b"ARM\x64", 0)
    return head + body.ljust(0x1000, b"\0")


def make_riscv_image(image_size: int = 0x200000) -> bytes:
    head = struct.pack("<IIQQQIIQ", 0x6F, 0, 0x200000, image_size, 0, 2, 0, 0)
    return head + b"RISCV\0\0\0" + b"RSC\x05" + bytes(4 + 0x1000)


def make_zboot(payload: bytes | None = None, comp: bytes = b"gzip") -> bytes:
    """A compressed EFI image, without its PE header, which is not read."""
    data = pack(make_arm64_image(), "gzip") if payload is None else payload
    head = struct.pack("<4s4sII8s32sII", b"MZ", b"zimg", 64, len(data), b"", comp, 0x818223CD, 64)
    return head + data


def make_cpio(*files: tuple[str, bytes]) -> bytes:
    """A newc archive with its trailer."""
    out = b""
    for number, (name, data) in enumerate((*files, ("TRAILER!!!", b""))):
        numbers = (number, 0o100644, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        out += b"070701" + b"".join(b"%08X" % value for value in numbers) + name.encode() + b"\0"
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return out
