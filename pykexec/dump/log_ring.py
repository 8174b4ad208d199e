"""The lockless ring of Linux 5.10 and later (kernel/printk/printk_ringbuffer.c).

A record is a descriptor (its id and state, and the position of its text) and the printk_info with
the same index. Text blocks start with the id of their record.
"""

from __future__ import annotations

import struct

from pykexec.dump.faults import DamagedDump
from pykexec.dump.log_record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pykexec.dump.paging import KernelMemory
    from pykexec.dump.vmcoreinfo import VmcoreInfo

FLAGS_SHIFT = 62
ID_MASK = (1 << FLAGS_SHIFT) - 1
COMMITTED, FINALIZED = 1, 2
ID_SIZE = 8
COUNT_BITS_MAX, SIZE_BITS_MAX = 26, 31
"""CONFIG_LOG_BUF_SHIFT goes up to 25, log_buf_len= to 2 GiB (LOG_BUF_LEN_MAX)."""
BATCH = 256
"""Descriptors to read at a time."""
QUAD, WORD, HALF = struct.Struct("<Q"), struct.Struct("<I"), struct.Struct("<H")


class Text:
    """The text ring, read in windows of 64 KiB."""

    WINDOW = 64 << 10

    def __init__(self, kernel: KernelMemory, addr: int, size: int) -> None:
        self.kernel, self.addr, self.size = kernel, addr, size
        self.start, self.window = 0, b""

    def read(self, at: int, size: int) -> bytes:
        """Bytes of the ring; fewer at its end."""
        size = min(size, self.size - at)
        if not self.start <= at <= at + size <= self.start + len(self.window):
            self.start = at
            self.window = self.kernel.read(self.addr + at, min(self.WINDOW, self.size - at))
            if size > len(self.window):
                return self.kernel.read(self.addr + at, size)
        at -= self.start
        return self.window[at : at + size]


class Layout:
    """Offsets of the members of descriptor and printk_info, checked once against their sizes."""

    def __init__(self, info: VmcoreInfo) -> None:
        self.desc_size = info.size_of("prb_desc")
        self.info_size = info.size_of("printk_info")
        block = info.offset("prb_desc.text_blk_lpos")
        self.state = info.offset("prb_desc.state_var") + info.offset("atomic_long_t.counter")
        self.begin = block + info.offset("prb_data_blk_lpos.begin")
        self.next = block + info.offset("prb_data_blk_lpos.next")
        self.time = info.offset("printk_info.ts_nsec")
        self.sequence = info.offset("printk_info.seq")
        self.length = info.offset("printk_info.text_len")
        """A u16; the next two bytes are facility, and flags with the level above them."""
        self.caller = info.offset("printk_info.caller_id")
        last_desc = max(self.state, self.begin, self.next) + QUAD.size
        last_info = max(self.time + 8, self.sequence + 8, self.length + 4, self.caller + 4)
        if last_desc > self.desc_size or last_info > self.info_size:
            raise DamagedDump("VMCOREINFO: a member of the log's ring is outside of its structure")


class Reader:
    """Makes a record of a descriptor and its printk_info."""

    def __init__(self, layout: Layout, text: Text) -> None:
        self.layout, self.text = layout, text

    def record(self, desc: bytes, info: bytes, identity: int) -> Record | None:
        """None for a descriptor that belongs to another record or is not finished."""
        layout = self.layout
        state = QUAD.unpack_from(desc, layout.state)[0]
        if state & ID_MASK != identity or state >> FLAGS_SHIFT not in (COMMITTED, FINALIZED):
            return None
        begin = QUAD.unpack_from(desc, layout.begin)[0]
        after = QUAD.unpack_from(desc, layout.next)[0]
        at, size = self.block(begin, after, identity)
        length = min(HALF.unpack_from(info, layout.length)[0], max(size - ID_SIZE, 0))
        return Record(
            self.text.read(at + ID_SIZE, length) if length else b"",
            QUAD.unpack_from(info, layout.time)[0],
            QUAD.unpack_from(info, layout.sequence)[0],
            info[layout.length + 2],
            info[layout.length + 3] >> 5,
            WORD.unpack_from(info, layout.caller)[0],
        )

    def block(self, begin: int, after: int, identity: int) -> tuple[int, int]:
        """(offset, bytes) of a text block, its id included; (0, 0) for a record without text.

        A block that would cross the ring's end starts at 0 instead. One that ends exactly there
        also starts at 0 up to 6.12, but not in later kernels (7.x); only the id shows which.
        """
        size = self.text.size
        if begin & 1:  # NO_LPOS, EMPTY_LINE_LPOS, FAILED_LPOS
            return 0, 0
        start, end = begin % size, after % size
        if start < end:
            return start, end - start
        if not end:
            stored = self.text.read(0, ID_SIZE)
            if QUAD.pack(identity) != stored:
                return start, size - start
            return 0, size
        return 0, end


def ring_records(kernel: KernelMemory, info: VmcoreInfo) -> Iterator[Record]:
    """From the oldest descriptor to the newest, without unfinished ones. At most as many as the
    ring has descriptors."""
    layout = Layout(info)
    ring = Ring(kernel, info)
    reader = Reader(layout, Text(kernel, ring.text, ring.text_size))
    done = 0
    while done < ring.used:
        number = (ring.first + done) % ring.count
        batch = min(BATCH, ring.used - done, ring.count - number)
        size, more = layout.desc_size, layout.info_size
        descs = kernel.read(ring.descs + number * size, batch * size)
        infos = kernel.read(ring.infos + number * more, batch * more)
        for at in range(batch):
            found = reader.record(
                descs[at * size : (at + 1) * size],
                infos[at * more : (at + 1) * more],
                ring.first + done + at & ID_MASK,
            )
            if found:
                yield found
        done += batch


class Ring:
    """struct printk_ringbuffer: `count` descriptors, `used` of them from id `first` on."""

    def __init__(self, kernel: KernelMemory, info: VmcoreInfo) -> None:
        raw = kernel.read(kernel.u64(info.symbol("prb")), info.size_of("printk_ringbuffer"))
        records = info.offset("printk_ringbuffer.desc_ring")
        texts = info.offset("printk_ringbuffer.text_data_ring")
        counter = info.offset("atomic_long_t.counter")

        def member(base: int, name: str, size: int = 8, more: int = 0) -> int:
            at = base + info.offset(name) + more
            if at + size > len(raw):
                raise DamagedDump(f"VMCOREINFO: {name} is outside of its structure")
            return int.from_bytes(raw[at : at + size], "little")

        count_bits = member(records, "prb_desc_ring.count_bits", 4)
        size_bits = member(texts, "prb_data_ring.size_bits", 4)
        if not 0 < count_bits <= COUNT_BITS_MAX or not 3 < size_bits <= SIZE_BITS_MAX:
            raise DamagedDump(f"the log's ring has 2^{count_bits} records in 2^{size_bits} bytes")
        self.count, self.text_size = 1 << count_bits, 1 << size_bits
        self.first = member(records, "prb_desc_ring.tail_id", more=counter) & ID_MASK
        last = member(records, "prb_desc_ring.head_id", more=counter) & ID_MASK
        self.used = (last - self.first & ID_MASK) + 1
        if self.used > self.count:
            raise DamagedDump(
                f"the log's ring claims {self.used} records, but has room for {self.count}"
            )
        self.descs = member(records, "prb_desc_ring.descs")
        self.infos = member(records, "prb_desc_ring.infos")
        self.text = member(texts, "prb_data_ring.data")
