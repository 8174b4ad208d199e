"""The kernel's log before 5.10: consecutive records (3.5 to 5.9, struct printk_log, which is struct
log in 3.5 to 3.10), and plain text before that (kernel/printk/printk.c)."""

from __future__ import annotations

from pykexec.dump.faults import DamagedDump
from pykexec.dump.log_record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pykexec.dump.kernel_memory import KernelMemory
    from pykexec.dump.vmcoreinfo import VmcoreInfo

SIZE_MAX = 1 << 31
"""LOG_BUF_LEN_MAX."""
WINDOW = 64 << 10


class Buffer:
    """log_buf, read in windows."""

    def __init__(self, kernel: KernelMemory, info: VmcoreInfo) -> None:
        self.kernel = kernel
        self.addr = kernel.u64(info.symbol("log_buf"))
        self.size = kernel.u32(info.symbol("log_buf_len"))
        if not 0 < self.size <= SIZE_MAX:
            raise DamagedDump(f"log_buf has {self.size} bytes")
        self.start, self.window = 0, b""

    def read(self, at: int, size: int) -> bytes:
        """Bytes of the buffer. Raises DamagedDump past its end."""
        if at + size > self.size:
            raise DamagedDump(f"the log record at {at:#x} goes past the end of log_buf")
        if not self.start <= at <= at + size <= self.start + len(self.window):
            self.start = at
            count = min(max(WINDOW, size), self.size - at)
            self.window = self.kernel.read(self.addr + at, count)
        return self.window[at - self.start : at - self.start + size]


def records(kernel: KernelMemory, info: VmcoreInfo) -> Iterator[Record]:
    """Yield the records from log_first_idx to log_next_idx. A record of length 0 sends the reader
    to the start, once; any other record moves it forward, so the walk ends."""
    name = "printk_log" if info.has("SIZE(printk_log)") else "log"
    head = info.size_of(name)
    time_at, length_at = info.offset(f"{name}.ts_nsec"), info.offset(f"{name}.len")
    text_at = info.offset(f"{name}.text_len")
    if max(time_at + 8, length_at + 2, text_at + 2) > head:
        raise DamagedDump(f"VMCOREINFO: a member of {name} is outside of its structure")
    buffer = Buffer(kernel, info)
    at = kernel.u32(info.symbol("log_first_idx"))
    end = kernel.u32(info.symbol("log_next_idx"))
    wrapped = False
    while at != end:
        raw = buffer.read(at, head)
        length = int.from_bytes(raw[length_at : length_at + 2], "little")
        if not length:
            if wrapped:
                raise DamagedDump("the log's records go around in a circle")
            at, wrapped = 0, True
            continue
        if length < head or (wrapped and at >= end):
            raise DamagedDump(f"a record of the log at {at:#x} has {length} bytes")
        kernel.tick()
        size = min(int.from_bytes(raw[text_at : text_at + 2], "little"), length - head)
        flags = raw[length_at + 7] if length_at + 8 <= head else None
        yield Record(
            buffer.read(at + head, size),
            int.from_bytes(raw[time_at : time_at + 8], "little"),
            facility=raw[length_at + 6] if flags is not None else None,
            level=flags >> 5 if flags is not None else None,
        )
        at += length


def plain_lines(kernel: KernelMemory, info: VmcoreInfo) -> Iterator[Record]:
    """The last log_buf_len characters up to log_end, also after `dmesg -c`, as crash(8) shows
    them."""
    buffer = Buffer(kernel, info)
    end = kernel.u32(info.symbol("log_end"))
    count = min(end, buffer.size)
    at, rest = (end - count) % buffer.size, b""
    while count:
        part = buffer.read(at, min(WINDOW, count, buffer.size - at))
        count -= len(part)
        at = (at + len(part)) % buffer.size
        *lines, rest = (rest + part).split(b"\n")
        kernel.tick(len(lines))
        for line in lines:
            yield Record(line)
    if rest:
        yield Record(rest)
