"""Memory in which every second huge page is in use, and all that is in use can be moved.

    python3 -m guest.scatter LEFT_MIB   leave so much free before, and stay in the background

Booted with hugepagesz=1G hugepages=1: that page is given up first, so that there is one GiB
in which nothing was ever allocated that cannot be moved.
"""

from __future__ import annotations

import ctypes
import mmap
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from .background import in_background
from .pattern import physical

HUGE = 2 << 20
GIB_PAGES = Path("/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages")
PAGE_TABLES = 32 << 20


def make_room_for_page_tables() -> None:
    """The kernel keeps what cannot be moved together: later page tables go where these were."""
    size = PAGE_TABLES // mmap.PAGESIZE * HUGE
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ) as memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        for at in range(0, size, HUGE):
            memory[at]  # one table for each


def scatter(left: int) -> mmap.mmap:
    """Take what is available but `left` bytes, and give back every second huge page, by its
    physical address."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    size = ((int(lines["MemAvailable"].split()[0]) << 10) - left) // HUGE * HUGE
    memory = mmap.mmap(-1, size + HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    first = -start % HUGE
    pages = range(first, first + size, HUGE)
    for at in pages:
        memory[at] = 1
    for at in pages:
        (frame,) = physical("self", start + at, 1)
        if frame // HUGE % 2:
            memory.madvise(mmap.MADV_DONTNEED, at, HUGE)
    return memory


def main(left_mib: int) -> None:
    """Return when it is done; the memory stays."""

    def work(say_ready: Callable[[], object]) -> None:
        make_room_for_page_tables()
        GIB_PAGES.write_text("0")
        held = scatter(left_mib << 20)
        say_ready()
        signal.pause()
        held.close()

    in_background(work, "memory could not be scattered")


if __name__ == "__main__":
    main(int(sys.argv[1]))
