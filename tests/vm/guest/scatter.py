"""Memory without adjacent huge pages, except for one GiB that is in use and can be moved.

    python3 -m guest.scatter   stay in the background

Boot with hugepagesz=1G hugepages=1. Of that GiB all but a few huge pages stay in use, so that
nothing unmovable gets there; of the rest of memory every eighth.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

from .background import in_background
from .pattern import physical

HUGE = 2 << 20
GIB = 1 << 30
POOL = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
GIB_POOL = POOL.with_name("hugepages-1048576kB")
HUGETLB_1GB = 0x40000 | 30 << 26  # MAP_HUGETLB | MAP_HUGE_1GB, include/uapi/linux/mman.h
MIN_FREE = Path("/proc/sys/vm/min_free_kbytes")
PAGE_TABLES = 32 << 20
LEFT = 48 << 20
RESERVE_KIB = 12 << 10  # for the kernel itself; a guest that is out of memory stops


def address(memory: mmap.mmap) -> int:
    """Its virtual address in this process."""
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def frame(at: int) -> int:
    """The number of the huge page at an address of this process."""
    (found,) = physical("self", at, 1)
    return found // HUGE


def reserved_gib() -> range:
    """The numbers of the huge pages that the page of 1 GiB consists of."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | HUGETLB_1GB
    memory = mmap.mmap(-1, GIB, flags=flags)
    memory[0] = 1
    first = frame(address(memory))
    return range(first, first + GIB // HUGE)


def make_room_for_page_tables() -> None:
    """The kernel groups unmovable pages: later page tables use the places of these."""
    size = PAGE_TABLES // mmap.PAGESIZE * HUGE
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ) as memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        for at in range(0, size, HUGE):
            memory[at]  # each needs one table


class Taken:
    """Huge pages in use, identified by their numbers."""

    def __init__(self, size: int) -> None:
        """Reserve address space for this many bytes, without taking pages. `room` is in huge
        pages."""
        self.memory = mmap.mmap(-1, size + HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.room = size // HUGE
        self.memory.madvise(mmap.MADV_HUGEPAGE)
        self.start = address(self.memory)
        self.next = -self.start % HUGE
        self.at: dict[int, int] = {}

    def take(self) -> None:
        """Take one more."""
        self.memory[self.next] = 1
        self.at[frame(self.start + self.next)] = self.next
        self.next += HUGE
        self.room -= 1

    def give_back(self, frames: Iterable[int]) -> None:
        """Release those with these numbers."""
        for number in frames:
            self.memory.madvise(mmap.MADV_DONTNEED, self.at.pop(number), HUGE)


def memory_free() -> int:
    """Bytes."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["MemFree"].split()[0]) << 10


def scatter() -> Taken:
    """Take nearly all free memory, then the GiB page by page, each as soon as it is free, and
    release the rest except every eighth page."""
    os.sched_setaffinity(0, {0})  # a freed page stays on its CPU's list
    MIN_FREE.write_text(str(RESERVE_KIB))
    gib = reserved_gib()
    taken = Taken(memory_free() + GIB)
    while memory_free() > LEFT:
        taken.take()
    (GIB_POOL / "demote").write_text("1")
    for number in reversed(range(len(gib))):
        (POOL / "nr_hugepages").write_text(str(number))
        taken.take()
    while taken.room and not taken.at.keys() >= set(gib):
        taken.take()
    taken.give_back([number for number in taken.at if number not in gib and number % 8])
    return taken


def main() -> None:
    """Return when it is done; the memory stays in use."""

    def work(say_ready: Callable[[], object]) -> None:
        make_room_for_page_tables()
        before = MIN_FREE.read_text()
        held = scatter()
        MIN_FREE.write_text(before)
        say_ready()
        signal.pause()
        held.memory.close()

    in_background(work, "memory could not be scattered")


if __name__ == "__main__":
    main()
