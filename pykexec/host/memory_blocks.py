"""Memory blocks of this machine: reads their states, zones and the use of their pages, and takes
blocks offline and online.

Documentation/admin-guide/mm/memory-hotplug.rst; drivers/base/memory.c.
"""

from __future__ import annotations

import os
import re
import signal
from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import PAGESIZE
from types import FrameType
from typing import TYPE_CHECKING

from pykexec.abi import kpageflags as kpf
from pykexec.errors import KexecError
from pykexec.host.root import THIS_MACHINE, Folder, Root, number, text
from pykexec.machine import Unknown
from pykexec.memory.blocks import MemoryBlock, MemoryBlocks, PageKinds
from pykexec.memory.map import REACHABLE
from pykexec.remedies import Another, Wish, and_also

if TYPE_CHECKING:
    from pykexec.memory.ranges import PhysRange

MEMORY = "/sys/devices/system/memory"
NODES = "/sys/devices/system/node"
KPAGEFLAGS = "/proc/kpageflags"
SWAP_IN_MEMORY = "/sys/module/zswap/parameters/enabled"

BLOCKS_MAX = 4096
"""Limit for the number of blocks, lowest addresses first: 512 GiB with the smallest size."""
BLOCK_SIZES = range(1 << 20, (1 << 40) + 1)
CHUNK = 1 << 17
"""Page frames to read at a time: 1 MiB of flags."""
AGAIN_SECONDS = 1.0
"""Interval of the signals that are sent to the kernel after the timeout, until it reacts."""

KINDS = (
    (kpf.KPF_NOPAGE, "missing"),
    (kpf.KPF_HWPOISON, "poisoned"),
    (kpf.KPF_OFFLINE, "offline"),
    (kpf.KPF_BUDDY, "free"),
    (kpf.KPF_SLAB, "slab"),
    (kpf.KPF_PGTABLE, "page_tables"),
    (kpf.KPF_RESERVED, "reserved"),
    (kpf.KPF_HUGE, "huge"),
    (kpf.KPF_ANON | kpf.KPF_MMAP, "user"),
    (kpf.KPF_LRU, "cache"),
)
"""The kind of a page is the first one of which it has a flag."""


class BlockRefused(KexecError):
    """The kernel did not change the state of a memory block, or not in time."""

    code = "memory-block"
    usual_hint = and_also("free memory, and try again", Another("another", Wish.MODE))


def memory_blocks(root: Root = THIS_MACHINE) -> MemoryBlocks | Unknown:
    """The blocks of `root`; Unknown if the kernel cannot take memory offline, or hides them."""
    size = number(root, f"{MEMORY}/block_size_bytes", 16)
    if isinstance(size, Unknown):
        return Unknown(f"the kernel lacks CONFIG_MEMORY_HOTPLUG ({size.why})")
    if size not in BLOCK_SIZES or size & (size - 1):
        return Unknown(f"{MEMORY}/block_size_bytes: {size:#x} is not a valid block size")
    names = root.entries(MEMORY)
    if isinstance(names, Unknown):
        return names
    numbers = sorted(int(name[6:]) for name in names if re.fullmatch(r"memory\d{1,12}", name))
    nodes = _block_nodes(root)
    found = []
    for block in [block for block in numbers if block < REACHABLE.end // size][:BLOCKS_MAX]:
        read = _memory_block(root, block, size, nodes.get(block))
        if isinstance(read, Unknown):
            return read
        found.append(read)
    return MemoryBlocks(size, tuple(found)) if found else Unknown(f"{MEMORY}: has no blocks")


def _memory_block(
    root: Root, block: int, size: int, node: int | None = None
) -> MemoryBlock | Unknown:
    """The present state of one block."""
    state = text(root, f"{MEMORY}/memory{block}/state", 4096)
    if isinstance(state, Unknown):
        return state
    zones = text(root, f"{MEMORY}/memory{block}/valid_zones", 4096)
    if isinstance(zones, Unknown):
        return Unknown(f"the kernel lacks CONFIG_MEMORY_HOTREMOVE ({zones.why})")
    return MemoryBlock(block, size, state, tuple(zones.split()), node)


def _block_nodes(root: Root) -> dict[int, int]:
    """The NUMA node of each block, as far as the nodes list them."""
    names = root.entries(NODES)
    if isinstance(names, Unknown):
        return {}
    found: dict[int, int] = {}
    for node in [int(name[4:]) for name in names if re.fullmatch(r"node\d{1,4}", name)]:
        inside = root.entries(f"{NODES}/node{node}")
        if not isinstance(inside, Unknown):
            blocks = (re.fullmatch(r"memory(\d{1,9})", name) for name in inside)
            found |= {int(match[1]): node for match in blocks if match}
    return found


def page_kinds(span: PhysRange, page_size: int, root: Root = THIS_MACHINE) -> PageKinds | Unknown:
    """The use of the pages, of `page_size` bytes, in a range. Unknown without CAP_SYS_ADMIN."""
    counts: Counter[int] = Counter()
    for first in range(span.start // page_size, span.end // page_size, CHUNK):
        frames = min(CHUNK, span.end // page_size - first)
        found = root.part(KPAGEFLAGS, first * kpf.KPF_BYTES, frames * kpf.KPF_BYTES)
        if isinstance(found, Unknown):
            return found
        counts.update(array("Q", found))
    kinds: Counter[str] = Counter()
    for flags, count in counts.items():
        kinds[_kind_of(flags)] += count
    return PageKinds(**kinds)


def _kind_of(flags: int) -> str:
    """The name of a field of PageKinds."""
    return next((name for mask, name in KINDS if flags & mask), "other")


class BlockSystem:
    """Reads and changes the blocks of this machine."""

    def __init__(self, root: Folder = THIS_MACHINE) -> None:
        self.root = root

    def blocks(self) -> MemoryBlocks | Unknown:
        return memory_blocks(self.root)

    def block(self, number: int, size: int) -> MemoryBlock | Unknown:
        return _memory_block(self.root, number, size)

    def kinds(self, span: PhysRange) -> PageKinds | Unknown:
        return page_kinds(span, PAGESIZE, self.root)

    def balloons(self) -> tuple[str, ...] | Unknown:
        return balloons(self.root)

    def set_state(self, number: int, state: str, seconds: float) -> None:
        """Write "offline", "online_movable" or "online_kernel". Raises BlockRefused.

        Taking a block offline has no time limit: the kernel retries as long as a page is pinned,
        until a signal arrives (mm/memory_hotplug.c:offline_pages). A signal is sent after
        `seconds`. Killing this process also ends it.
        """
        path = self.root.locate(f"{MEMORY}/memory{number}/state")
        try:
            with _interrupted_after(seconds):
                fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
                try:
                    os.write(fd, state.encode())
                finally:
                    os.close(fd)
        except TimeUpError as error:
            raise BlockRefused(
                f"memory{number}: not {state} after {seconds:g} s: a page in it is pinned"
            ) from error
        except OSError as error:
            raise BlockRefused(
                f"memory{number}: not {state}: {(error.strerror or str(error)).lower()}"
            ) from error


class TimeUpError(Exception):
    """Raised by the alarm, during a system call."""


@contextmanager
def _interrupted_after(seconds: float) -> Iterator[None]:
    """Raises TimeUpError inside the block. Only the main thread of a program handles signals, so
    another thread waits as long as the kernel does."""
    waiting = True

    def ring(signum: int, frame: FrameType | None) -> None:
        if waiting:
            raise TimeUpError

    try:
        before = signal.signal(signal.SIGALRM, ring)
    except ValueError:
        yield
        return
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_SECONDS)
        yield
    finally:
        waiting = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def balloons(root: Root) -> tuple[str, ...] | Unknown:
    """Balloon drivers that are bound: the host may take movable pages away, and return them with
    other contents."""
    buses = root.entries("/sys/bus")
    if isinstance(buses, Unknown):
        return buses
    found = []
    for driver, folder, device in (
        ("virtio_balloon", "/sys/bus/virtio/drivers/virtio_balloon", r"virtio\d+"),
        ("hv_balloon", "/sys/bus/vmbus/drivers/hv_balloon", r"[0-9a-f]+-[0-9a-f-]+"),
        ("xen_memory", "/sys/devices/system/xen_memory", r"xen_memory\d+"),
    ):
        names = root.entries(folder)
        if isinstance(names, tuple) and any(re.fullmatch(device, name) for name in names):
            found.append(driver)
    if root.exists("/sys/module/vmw_balloon/initstate") is True:
        found.append("vmw_balloon")
    return tuple(found)


def swap_in_memory(root: Root) -> tuple[str, ...] | Unknown:
    """Users of compressed pages in movable memory (zsmalloc): "zram0", "zswap"."""
    names = root.entries("/sys/block")
    if isinstance(names, Unknown):
        return names
    disks = [
        name
        for name in names
        if re.fullmatch(r"zram\d+", name) and number(root, f"/sys/block/{name}/disksize")
    ]
    enabled = text(root, SWAP_IN_MEMORY, 16)
    return (*disks, *(["zswap"] if enabled in ("Y", "1") else []))
