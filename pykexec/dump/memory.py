"""A summary of memory: the kernel's own counters, in bytes. Some hundred KiB that CPUs have not yet
added to them are left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykexec.dump.vmcoreinfo import page_size_of
from pykexec.errors import KexecError

if TYPE_CHECKING:
    from pykexec.dump.linux import Linux

ZONE, NODE = "vm_zone_stat", "vm_node_stat"
PAGES = {
    "free": (ZONE, "zone_stat_item", "NR_FREE_PAGES"),
    "anonymous": (NODE, "node_stat_item", "NR_ANON_MAPPED"),
    "files": (NODE, "node_stat_item", "NR_FILE_PAGES"),
    "shared": (NODE, "node_stat_item", "NR_SHMEM"),
}
BYTES = {
    "reclaimable_slab": (NODE, "node_stat_item", "NR_SLAB_RECLAIMABLE_B"),
    "slab": (NODE, "node_stat_item", "NR_SLAB_UNRECLAIMABLE_B"),
}
"""These count pages as well, despite their names (include/linux/vmstat.h)."""


@dataclass(frozen=True, slots=True)
class Memory:
    """`counters` as far as the kernel has them; `files` is the page cache, shared memory
    included."""

    total: int
    counters: dict[str, int]


def read_memory(linux: Linux) -> Memory:
    """Read the counters. Raises KexecError if not even the total is known."""
    page = page_size_of(linux.dump.info.values)
    total = linux.memory.u64(linux.address("_totalram_pages")) * page
    counters = {}
    for name, (table, enum, item) in (PAGES | BYTES).items():
        try:
            number = linux.types.enumerators(enum)[item]
            at = linux.address(table) + 8 * number
            raw = linux.memory.read(at, 8)
        except (KexecError, KeyError):
            continue
        counters[name] = max(int.from_bytes(raw, "little", signed=True), 0) * page
    return Memory(total, counters)
