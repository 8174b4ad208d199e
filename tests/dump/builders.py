"""Builds dumps from arguments: memory with page tables, VMCOREINFO and a log of each kind, and
files with such memory."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from pykexec.crash.notes import CORE, VMCOREINFO, Note

PAGE = 4096
TEXT = 0xFFFFFFFF80000000
DIRECT = 0xFFFF888000000000
RELEASE = "6.1.0-built"
EM_X86_64, EM_AARCH64 = 62, 183
BLOCKS = {EM_X86_64: 0x83, EM_AARCH64: 0x701}
"""The low bits of an entry that maps 2 MiB."""
PRSTATUS = Note(CORE, 1, struct.pack("<32xI", 42).ljust(336, b"\0")).encoded


@dataclass
class Ring:
    """The addresses of the parts of a log's ring."""

    descs: int = 0
    head: int = 0


@dataclass
class Memory:
    """A kernel's memory: all of it in the direct map, and also its image at `phys_base`."""

    size: int = 4 << 20
    phys_base: int = 1 << 21
    levels: int = 4
    huge: bool = True
    machine: int = EM_X86_64
    uts_offset: int = 8
    info: dict[str, str] = field(default_factory=dict)
    ram: bytearray = field(init=False)
    used: int = field(init=False)
    ring: Ring = field(default_factory=Ring, init=False)

    def __post_init__(self) -> None:
        self.ram = bytearray(self.size)
        self.used = PAGE
        root = self.take(PAGE, PAGE)
        self.root = root
        for addr in range(0, self.size, 2 << 20):
            self.map(DIRECT + addr, addr, self.huge)
        for addr in range(0, self.size - self.phys_base, 2 << 20):
            self.map(TEXT + addr, self.phys_base + addr, self.huge)
        words = b"".join(word.encode().ljust(65, b"\0") for word in ("Linux", "", RELEASE))
        name = self.put(bytes(self.uts_offset) + words)
        self.info = {
            "OSRELEASE": RELEASE,
            "PAGESIZE": "4096",
            "SYMBOL(swapper_pg_dir)": f"{TEXT + root - self.phys_base & (1 << 64) - 1:x}",
            **self.numbers,
            "SYMBOL(init_uts_ns)": f"{name:x}",
            "OFFSET(uts_namespace.name)": str(self.uts_offset),
            "KERNELOFFSET": "0",
        } | self.info

    @property
    def numbers(self) -> dict[str, str]:
        """What VMCOREINFO has about addresses."""
        if self.machine == EM_AARCH64:
            return {
                "NUMBER(VA_BITS)": "48",
                "NUMBER(TCR_EL1_T1SZ)": "0x10",
                "NUMBER(kimage_voffset)": f"{TEXT - self.phys_base:#x}",
            }
        return {
            "NUMBER(phys_base)": str(self.phys_base),
            "NUMBER(pgtable_l5_enabled)": str(int(self.levels == 5)),
        }

    def take(self, size: int, align: int = 8) -> int:
        """Allocate bytes, and return their physical address."""
        at = -(-self.used // align) * align
        self.used = at + size
        assert self.used <= self.size
        return at

    def put(self, data: bytes, align: int = 8) -> int:
        """Store bytes, and return their virtual address in the direct map."""
        at = self.take(len(data), align)
        self.ram[at : at + len(data)] = data
        return DIRECT + at

    def word(self, value: int, size: int = 8) -> int:
        """Store a number, and return its address."""
        return self.put((value & (1 << 64) - 1).to_bytes(8, "little")[:size])

    def symbol(self, name: str, addr: int) -> None:
        self.info[f"SYMBOL({name})"] = f"{addr:x}"

    def map(self, virtual: int, physical: int, huge: bool) -> None:
        """Map 2 MiB, as one page or as 512."""
        table = self.root
        for shift in (48, 39, 30)[0 if self.levels == 5 else 1 :]:
            table = self.next_table(table, virtual >> shift & 511)
        if huge:
            self.entry(table, virtual >> 21 & 511, physical | BLOCKS[self.machine])
            return
        table = self.next_table(table, virtual >> 21 & 511)
        for number in range(512):
            self.entry(table, number, physical + number * PAGE | 3)

    def next_table(self, table: int, number: int) -> int:
        at = table + number * 8
        found = int.from_bytes(self.ram[at : at + 8], "little")
        if not found:
            found = self.take(PAGE, PAGE) | 3
            self.entry(table, number, found)
        return found & ~0xFFF

    def entry(self, table: int, number: int, value: int) -> None:
        self.ram[table + number * 8 : table + number * 8 + 8] = value.to_bytes(8, "little")

    @property
    def vmcoreinfo(self) -> bytes:
        return "".join(f"{key}={value}\n" for key, value in self.info.items()).encode()

    @property
    def note(self) -> bytes:
        return Note(VMCOREINFO, 0, self.vmcoreinfo).encoded

    def hide_note(self) -> int:
        """Store VMCOREINFO in memory, as the kernel does, and return its physical address."""
        return self.put(self.note, PAGE) - DIRECT


# --- logs -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """One printk."""

    text: bytes
    nanoseconds: int = 0
    level: int = 6
    facility: int = 0


LINES = (
    Line(b"Linux version 6.1.0-built", 0, 5),
    Line(b"two\nlines", 1_500_000_000),
    Line(b"control \x1b[31m and \xff, \xc3\xbc", 2_000_001_999, 4),
    Line(b"", 3_000_000_000),
    Line(b"Kernel panic - not syncing: built", 123456_000_007_000, 0),
)
RING_INFO = """SIZE(printk_ringbuffer)=80 OFFSET(printk_ringbuffer.desc_ring)=0
OFFSET(printk_ringbuffer.text_data_ring)=40 OFFSET(printk_ringbuffer.fail)=72
SIZE(prb_desc_ring)=40 OFFSET(prb_desc_ring.count_bits)=0 OFFSET(prb_desc_ring.descs)=8
OFFSET(prb_desc_ring.infos)=16 OFFSET(prb_desc_ring.head_id)=24 OFFSET(prb_desc_ring.tail_id)=32
SIZE(prb_desc)=24 OFFSET(prb_desc.state_var)=0 OFFSET(prb_desc.text_blk_lpos)=8
SIZE(prb_data_blk_lpos)=16 OFFSET(prb_data_blk_lpos.begin)=0 OFFSET(prb_data_blk_lpos.next)=8
SIZE(printk_info)=88 OFFSET(printk_info.seq)=0 OFFSET(printk_info.ts_nsec)=8
OFFSET(printk_info.text_len)=16 OFFSET(printk_info.caller_id)=20 OFFSET(printk_info.dev_info)=24
SIZE(prb_data_ring)=32 OFFSET(prb_data_ring.size_bits)=0 OFFSET(prb_data_ring.data)=8
SIZE(atomic_long_t)=8 OFFSET(atomic_long_t.counter)=0 SIZE(latched_seq)=64"""
FINALIZED = 2 << 62
IDS = (1 << 62) - 1


def add_ring(
    memory: Memory,
    lines: Iterable[Line] = LINES,
    *,
    count_bits: int = 4,
    size_bits: int = 9,
    newest: bool = False,
    first_id: int = IDS - 3,
) -> int:
    """The ring of 5.10 and later, as the kernel fills it: new records overwrite the oldest.
    `newest`: a block may end with the ring's last byte (7.x). The ids wrap, as real ones do.
    Returns the number of lines that are still there."""
    memory.info |= dict(pair.split("=", 1) for pair in RING_INFO.split())
    count, size = 1 << count_bits, 1 << size_bits
    descs, infos = bytearray(24 * count), bytearray(88 * count)
    ring = bytearray(size)
    begin = (1 << 40) * size
    spans: list[tuple[int, int]] = []
    for sequence, line in enumerate(lines):
        identity = first_id + sequence & IDS
        need = -(-(8 + len(line.text)) // 8) * 8
        after = begin + need
        at = begin % size
        ends_there = after % size == 0
        if (begin // size != after // size) and not (newest and ends_there):
            at, after = 0, (after // size) * size + need
            ring[begin % size : begin % size + 8] = identity.to_bytes(8, "little")
        ring[at : at + 8] = identity.to_bytes(8, "little")
        ring[at + 8 : at + 8 + len(line.text)] = line.text
        struct.pack_into("<QQQ", descs, identity % count * 24, identity | FINALIZED, begin, after)
        struct.pack_into(
            "<QQHBBI", infos, identity % count * 88,
            sequence, line.nanoseconds, len(line.text), line.facility, line.level << 5, 1,
        )  # fmt: skip
        spans.append((identity, begin))
        begin = after
    kept = [identity for identity, start in spans[-count:] if begin - start <= size]
    memory.ring = Ring(memory.put(bytes(descs)), 0)
    head = struct.pack(
        "<I4xQQQQ", count_bits, memory.ring.descs, memory.put(bytes(infos)), spans[-1][0], kept[0]
    )
    text = struct.pack("<I4xQQQ", size_bits, memory.put(bytes(ring)), begin, begin)
    memory.ring.head = memory.put(head + text + bytes(8))
    memory.symbol("prb", memory.word(memory.ring.head))
    return len(kept)


def add_records(
    memory: Memory, before: Iterable[Line], after: Iterable[Line], name: str, gap: int = 256
) -> None:
    """The buffer of 3.5 to 5.9: the lines in `after` have wrapped to its start. `name` is
    printk_log or log."""
    buffer = bytearray(4096)
    memory.info |= {
        f"SIZE({name})": "16",
        f"OFFSET({name}.ts_nsec)": "0",
        f"OFFSET({name}.len)": "8",
        f"OFFSET({name}.text_len)": "10",
        f"OFFSET({name}.dict_len)": "12",
    }
    end = place(buffer, 0, after)
    first = end + gap if end else 0
    at = place(buffer, first, before)
    memory.symbol("log_first_idx", memory.word(first, 4))
    memory.symbol("log_next_idx", memory.word(end or at, 4))
    memory.symbol("log_buf", memory.word(memory.put(bytes(buffer))))
    memory.symbol("log_buf_len", memory.word(len(buffer), 4))


def place(buffer: bytearray, at: int, lines: Iterable[Line]) -> int:
    """Store records from there; returns the place of the next one, whose length is still 0."""
    for line in lines:
        size = -(-(16 + len(line.text) + 4) // 4) * 4
        struct.pack_into(
            "<QHHHBB", buffer, at, line.nanoseconds, size, len(line.text), 4, line.facility,
            line.level << 5,
        )  # fmt: skip
        buffer[at + 16 : at + 16 + len(line.text)] = line.text
        buffer[at + 16 + len(line.text) : at + 20 + len(line.text)] = b"DICT"
        at += size
    return at


def add_plain(memory: Memory, text: bytes, size: int = 4096) -> None:
    """The buffer before 3.5: characters, of which the last `size` remain."""
    ring = bytearray(size)
    for at, byte in enumerate(text):
        ring[at % size] = byte
    memory.symbol("log_buf", memory.word(memory.put(bytes(ring))))
    memory.symbol("log_buf_len", memory.word(size, 4))
    memory.symbol("log_end", memory.word(len(text), 4))
    memory.symbol("logged_chars", memory.word(min(len(text), size), 4))


# --- files ----------------------------------------------------------------------------------


def elf(memory: Memory, *, notes: bytes | None = None, cut: int = 0) -> bytes:
    """An ELF core as QEMU writes it: memory at p_paddr, p_vaddr 0; truncated by `cut` bytes."""
    merged = PRSTATUS + memory.note if notes is None else notes
    at = 64 + 2 * 56
    head = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01", 4, memory.machine, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0,
    )  # fmt: skip
    note = struct.pack("<IIQQQQQQ", 4, 0, at, 0, 0, len(merged), len(merged), 0)
    start = at + len(merged)
    load = struct.pack("<IIQQQQQQ", 1, 7, start, 0, 0, memory.size, memory.size, 0)
    whole = head + note + load + merged + bytes(memory.ram)
    return whole[: len(whole) - cut]


Packer = Callable[[bytes], bytes]
FLAGS = {"none": 0, "zlib": 1, "lzo": 2, "snappy": 4, "zstd": 32}


def kdump(
    memory: Memory,
    codec: str = "zlib",
    pack: Packer = zlib.compress,
    *,
    keep: Callable[[int], bool] = lambda frame: True,
    with_info: bool = True,
    split: tuple[int, int] | None = None,
) -> bytes:
    """A kdump-compressed file; pages that do not shrink are stored, as makedumpfile does."""
    frames = memory.size // PAGE
    bitmap = bytearray(PAGE)
    for frame in filter(keep, range(frames)):
        bitmap[frame >> 3] |= 1 << (frame & 7)
    first, last = split or (0, frames)
    inside = [frame for frame in filter(keep, range(frames)) if first <= frame < last]
    at = 4 * PAGE + 24 * len(inside)
    table, pages = b"", b""
    for frame in inside:
        raw = bytes(memory.ram[frame * PAGE : (frame + 1) * PAGE])
        packed = raw if codec == "none" else pack(raw)
        flags = FLAGS[codec] if len(packed) < PAGE else 0
        packed = packed if flags else raw
        table += struct.pack("<QIIQ", at + len(pages), len(packed), flags, 0)
        pages += packed
    info = memory.vmcoreinfo if with_info else b""
    info_at = at + len(pages)
    head = struct.pack(
        "<8si390s6x16xIiiIIIIIII", b"KDUMP   ", 6, b"Linux", FLAGS[codec], PAGE, 1, 2, frames,
        0, 0, 0, 0, 1,
    )  # fmt: skip
    sub = struct.pack(
        "<Qii11Q", memory.phys_base, 31, int(split is not None), first, last,
        info_at if info else 0, len(info), info_at + len(info), len(PRSTATUS), 0, 0, first, last,
        frames,
    )  # fmt: skip
    blocks = (head, sub, bytes(bitmap), bytes(bitmap))
    return b"".join((*(block.ljust(PAGE, b"\0") for block in blocks), table, pages, info, PRSTATUS))


def flattened(data: bytes, pieces: Iterator[int] | None = None, *, end: bool = True) -> bytes:
    """In pieces of several sizes, last piece first, with the header a second time with other
    bytes."""
    head = b"makedumpfile".ljust(16, b"\0") + struct.pack(">qq", 1, 1)
    cuts, at = [], 0
    sizes = pieces or iter(())
    while at < len(data):
        size = next(sizes, 5000)
        cuts.append((at, data[at : at + size]))
        at += size
    wrong = (0, bytes(min(64, len(data))))
    body = b"".join(
        struct.pack(">qq", offset, len(part)) + part for offset, part in (wrong, *reversed(cuts))
    )
    return head.ljust(PAGE, b"\0") + body + (struct.pack(">qq", -1, -1) if end else b"")
