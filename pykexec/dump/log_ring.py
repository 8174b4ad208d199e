"""The lockless ring of Linux 5.10 and later (kernel/printk/printk_ringbuffer.c).

A record is a descriptor (its id and state, and the position of its text) and the printk_info with
the same index. Text blocks start with the id of their record.
"""

from __future__ import annotations

from pykexec.dump.faults import DamagedDump
from pykexec.dump.log_record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pykexec.dump.kernel_memory import KernelMemory
    from pykexec.dump.vmcoreinfo import VmcoreInfo

FLAGS_SHIFT = 62
ID_MASK = (1 << FLAGS_SHIFT) - 1
COMMITTED, FINALIZED = 1, 2
DONE = frozenset({COMMITTED << FLAGS_SHIFT, FINALIZED << FLAGS_SHIFT})
"""A state without its id."""
ID_SIZE = 8
COUNT_BITS_MAX, SIZE_BITS_MAX = 26, 31
"""CONFIG_LOG_BUF_SHIFT goes up to 25, log_buf_len= to 2 GiB (LOG_BUF_LEN_MAX)."""
BATCH = 256
"""Descriptors to read at a time."""
COST_SHIFT = 10
"""Each KiB of text costs as much as a read."""
STRUCT_MAX = 1 << 10
"""Limit for the size of a descriptor and of a printk_info, which has 112 bytes in 7.2."""


class Text:
    """The text ring, read in windows of 64 KiB."""

    WINDOW = 64 << 10

    def __init__(self, kernel: KernelMemory, addr: int, size: int) -> None:
        self.kernel, self.addr, self.size = kernel, addr, size
        self.start, self.window = 0, b""
        self.taken = 0
        """Bytes of all blocks so far."""

    def read(self, at: int, size: int) -> bytes:
        """Bytes of the ring; fewer at its end."""
        here = at - self.start
        if here >= 0 and here + size <= len(self.window):
            return self.window[here : here + size]
        size = min(size, self.size - at)
        self.start = at
        self.window = self.kernel.read(self.addr + at, min(self.WINDOW, self.size - at))
        if size > len(self.window):
            return self.kernel.read(self.addr + at, size)
        return self.window[:size]

    def block(self, begin: int, after: int, identity: int) -> tuple[int, int]:
        """(offset, bytes) of a text block, its id included; (0, 0) for a record without text.

        A block that would cross the ring's end starts at 0 instead. One that ends exactly there
        also starts at 0 up to 6.12, but not in later kernels (7.x); only the id shows which.
        """
        if begin & 1:  # NO_LPOS, EMPTY_LINE_LPOS, FAILED_LPOS
            return 0, 0
        start, end = begin % self.size, after % self.size
        if start < end:
            return start, end - start
        if not end:
            if self.read(0, ID_SIZE) != identity.to_bytes(ID_SIZE, "little"):
                return start, self.size - start
            return 0, self.size
        return 0, end


class Layout:
    """Offsets of the members of descriptor and printk_info, checked once: each is inside of its
    structure and aligned, so that an array of structures can be read as numbers of its size."""

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
        last_desc = max(self.state, self.begin, self.next) + 8
        last_info = max(self.time + 8, self.sequence + 8, self.length + 4, self.caller + 4)
        if max(self.desc_size, self.info_size) > STRUCT_MAX:
            raise DamagedDump("VMCOREINFO: the structures of the log's ring are too large")
        if last_desc > self.desc_size or last_info > self.info_size:
            raise DamagedDump("VMCOREINFO: a member of the log's ring is outside of its structure")
        quads = (self.desc_size, self.info_size, self.state, self.begin, self.next, self.time)
        if any(at % 8 for at in (*quads, self.sequence)) or self.length % 2 or self.caller % 4:
            raise DamagedDump("VMCOREINFO: a member of the log's ring is not aligned")


def finished(
    layout: Layout, text: Text, descs: bytes, infos: bytes, first: int
) -> Iterator[Record]:
    """The records of adjacent descriptors and their printk_infos; `first` is the id of the first
    one. Leaves out descriptors that belong to another record or are not finished."""
    step, more = layout.desc_size >> 3, layout.info_size
    states, (times, halves, words) = quads_of(descs), arrays_of(infos)
    state, begin, after = layout.state >> 3, layout.begin >> 3, layout.next >> 3
    time, sequence, caller = layout.time >> 3, layout.sequence >> 3, layout.caller >> 2
    length_at = layout.length
    for number in range(len(states) // step):
        identity, at = first + number & ID_MASK, number * step
        if states[at + state] ^ identity not in DONE:
            continue
        start, size = text.block(states[at + begin], states[at + after], identity)
        text.taken += size
        at = number * more
        flags = at + length_at
        length = halves[flags >> 1]
        if length > size - ID_SIZE:
            length = max(size - ID_SIZE, 0)
        yield Record(
            text.read(start + ID_SIZE, length) if length else b"",
            times[(at >> 3) + time],
            times[(at >> 3) + sequence],
            infos[flags + 2],
            infos[flags + 3] >> 5,
            words[(at >> 2) + caller],
        )


def quads_of(raw: bytes) -> memoryview[int]:
    """Numbers of 8 bytes. Views instead of struct, whose import takes as long as 60 records."""
    return memoryview(raw).cast("Q")


def arrays_of(raw: bytes) -> tuple[memoryview[int], memoryview[int], memoryview[int]]:
    """The same bytes as numbers of 8, 2 and 4 bytes."""
    view = memoryview(raw)
    return view.cast("Q"), view.cast("H"), view.cast("I")


def ring_records(kernel: KernelMemory, info: VmcoreInfo) -> Iterator[Record]:
    """Yield the records from the oldest descriptor to the newest, without unfinished ones; at most
    as many as the ring has descriptors."""
    layout = Layout(info)
    ring = Ring(kernel, info)
    text = Text(kernel, ring.text, ring.text_size)
    done = 0
    while done < ring.used:
        number = (ring.first + done) % ring.count
        batch = min(BATCH, ring.used - done, ring.count - number)
        size, more = layout.desc_size, layout.info_size
        descs = kernel.read(ring.descs + number * size, batch * size)
        infos = kernel.read(ring.infos + number * more, batch * more)
        before = text.taken
        yield from finished(layout, text, descs, infos, ring.first + done)
        done += batch
        kernel.tick(batch + (text.taken - before >> COST_SHIFT))
        if text.taken > 2 * text.size:
            raise DamagedDump("the log's records have more text than its ring")


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
