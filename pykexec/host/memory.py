"""The memory map of the machine, its free memory, and its huge pages."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from pykexec.frozen import dataclass
from pykexec.host.root import Root, numbers, text
from pykexec.machine import HugePagePool, HugePageUser, Unknown
from pykexec.memory import firmware_memmap, iomem
from pykexec.memory.ranges import RangeSet

if TYPE_CHECKING:
    from pykexec.memory.map import MemoryMap

IOMEM = "/proc/iomem"
MEMMAP = "/sys/firmware/memmap"
POOLS = "/sys/kernel/mm/hugepages"
KERNEL_IMAGE = ("Kernel code", "Kernel rodata", "Kernel data", "Kernel bss")
MEMMAP_ENTRIES_MAX = 4096
"""More than E820_MAX_ENTRIES with the most NUMA nodes (asm/e820/types.h: 3200)."""
PROCESSES_MAX = 32768


def iomem_lines(root: Root) -> tuple[iomem.IomemLine, ...] | Unknown:
    """/proc/iomem; Unknown if it shows zeros, as without CAP_SYS_ADMIN."""
    found = text(root, IOMEM)
    if isinstance(found, Unknown):
        return found
    lines = iomem.parse_iomem(found)
    if not lines:
        return Unknown(f"{IOMEM}: addresses are hidden (they are zero without CAP_SYS_ADMIN)")
    return lines


@dataclass(frozen=True, slots=True)
class Maps:
    """The memory map of the running kernel and its source, the firmware's map, and RAM in either
    that a processor cannot address."""

    running: MemoryMap | Unknown
    source: str
    firmware: MemoryMap | Unknown
    out_of_reach: RangeSet | Unknown


def memory_maps(
    root: Root,
    lines: tuple[iomem.IomemLine, ...] | Unknown,
    cmdline: str | Unknown,
    held: bool = False,
) -> Maps:
    """Both maps, without what a processor cannot address; `held` as for `iomem.memory_map`."""
    firmware = _firmware_map(root)
    running, source = memory_map(lines, firmware, cmdline, held)
    both = [found for found in (running, firmware) if not isinstance(found, Unknown)]
    beyond = RangeSet.of(span for found in both for span in found.out_of_reach)
    lost = beyond if both else Unknown("there is no memory map")
    return Maps(_reachable(running), source, _reachable(firmware), lost)


def _reachable(found: MemoryMap | Unknown) -> MemoryMap | Unknown:
    return found if isinstance(found, Unknown) else found.reachable


def memory_map(
    lines: tuple[iomem.IomemLine, ...] | Unknown,
    firmware: MemoryMap | Unknown,
    cmdline: str | Unknown,
    held: bool = False,
) -> tuple[MemoryMap | Unknown, str]:
    """The running kernel's map, and the file that it comes from.

    The firmware's map, which all users can read, is the second choice: with add_efi_memmap the
    kernel uses RAM that is not in it (Documentation/admin-guide/kernel-parameters).
    """
    if not isinstance(lines, Unknown):
        found = iomem.memory_map(lines, held)
        if found.ram:
            return found, IOMEM
        lines = Unknown(f"{IOMEM}: has no System RAM")
    if isinstance(firmware, Unknown):
        return Unknown(f"{lines.why}; {firmware.why}"), ""
    if isinstance(cmdline, str) and "add_efi_memmap" in cmdline.split():
        return Unknown(f"{lines.why}; {MEMMAP}: incomplete with add_efi_memmap"), ""
    return firmware, MEMMAP


def _firmware_map(root: Root) -> MemoryMap | Unknown:
    """/sys/firmware/memmap, with one directory for each entry."""
    names = root.entries(MEMMAP)
    if isinstance(names, Unknown):
        return names
    if len(names) > MEMMAP_ENTRIES_MAX:
        return Unknown(f"{MEMMAP}: more than {MEMMAP_ENTRIES_MAX} entries")
    entries: list[tuple[str, str, str]] = []
    for name in names:
        values = [
            text(root, f"{MEMMAP}/{name}/{field}", 4096) for field in ("start", "end", "type")
        ]
        known = [value for value in values if isinstance(value, str)]
        if len(known) < 3:
            return Unknown(f"{MEMMAP}/{name}: cannot be read")
        entries.append((known[0], known[1], known[2]))
    found = firmware_memmap.memory_map(entries)
    return found if found.ram else Unknown(f"{MEMMAP}: has no System RAM")


def kernel_image(lines: tuple[iomem.IomemLine, ...] | Unknown) -> RangeSet | Unknown:
    """The addresses of the running kernel."""
    if isinstance(lines, Unknown):
        return lines
    return iomem.named(lines, *KERNEL_IMAGE) or Unknown(f"{IOMEM}: has no Kernel code")


def crash_kernel(
    lines: tuple[iomem.IomemLine, ...] | Unknown, crash_size: int | Unknown
) -> RangeSet | Unknown:
    """What crashkernel= reserved; any user can read that nothing is reserved."""
    if crash_size == 0:
        return RangeSet()
    if isinstance(lines, Unknown):
        return lines
    return iomem.named(lines, "Crash kernel")


def meminfo(root: Root) -> dict[str, int] | Unknown:
    """/proc/meminfo in bytes; values without a unit are counts."""
    found = text(root, "/proc/meminfo")
    if isinstance(found, Unknown):
        return found
    values: dict[str, int] = {}
    for match in re.finditer(r"^(\S+):\s+(\d{1,20})( kB)?$", found, re.MULTILINE):
        values[match[1]] = int(match[2]) * (1024 if match[3] else 1)
    return values


def memory_size(values: dict[str, int] | Unknown, name: str) -> int | Unknown:
    """One line of /proc/meminfo."""
    if isinstance(values, Unknown):
        return values
    return values.get(name, Unknown(f"/proc/meminfo: has no {name}"))


def hugepage_pools(root: Root) -> tuple[HugePagePool, ...] | Unknown:
    """By page size, smallest first."""
    names = root.entries(POOLS)
    if isinstance(names, Unknown):
        return names
    pools: list[HugePagePool] = []
    for name in names:
        match = re.fullmatch(r"hugepages-(\d{1,10})kB", name)
        if not match:
            continue
        kinds = ("nr", "free", "resv", "surplus")
        counts = numbers(root, (f"{POOLS}/{name}/{kind}_hugepages" for kind in kinds))
        if isinstance(counts, Unknown):
            return counts
        pools.append(HugePagePool(int(match[1]) * 1024, *counts))
    return tuple(sorted(pools, key=lambda pool: pool.page_size))


def hugepage_users(root: Root) -> tuple[HugePageUser, ...] | Unknown:
    """Processes with huge pages mapped, from /proc/PID/status, largest first."""
    return _processes_with(root, lambda name, status: hugetlb_size(status))


def hugepage_mappers(root: Root) -> tuple[HugePageUser, ...] | Unknown:
    """The same, including pages that are reserved for untouched mappings, which takes longer
    because it reads /proc/PID/maps of every process. Without this process."""

    def size(name: str, status: str) -> int:
        maps = text(root, f"/proc/{name}/maps")
        mapped = 0 if isinstance(maps, Unknown) else _hugetlb_mapped(maps)
        return max(hugetlb_size(status), mapped)

    found = _processes_with(root, size)
    if isinstance(found, Unknown):
        return found
    return tuple(user for user in found if user.pid != os.getpid())


def _processes_with(
    root: Root, size_of: Callable[[str, str], int]
) -> tuple[HugePageUser, ...] | Unknown:
    """The processes whose size is not 0, given a function of the name in /proc and the text of
    status."""
    names = root.entries("/proc")
    if isinstance(names, Unknown):
        return names
    users: list[HugePageUser] = []
    for name in [name for name in names if name.isdecimal()][:PROCESSES_MAX]:
        status = text(root, f"/proc/{name}/status", 1 << 16)
        if isinstance(status, str) and (size := size_of(name, status)):
            process = re.search(r"^Name:\s*(.*)$", status, re.MULTILINE)
            users.append(HugePageUser(int(name), process[1] if process else "?", size))
    return tuple(sorted(users, key=lambda user: (-user.size, user.pid)))


def _hugetlb_mapped(maps: str) -> int:
    """Bytes of anonymous mappings with MAP_HUGETLB in the text of /proc/PID/maps."""
    found = re.findall(
        r"^([0-9a-f]{1,16})-([0-9a-f]{1,16}) .*/anon_hugepage(?: \(deleted\))?$",
        maps,
        re.MULTILINE,
    )
    return sum(max(0, int(end, 16) - int(start, 16)) for start, end in found)


def hugetlb_size(status: str) -> int:
    """Bytes of huge pages in the text of /proc/PID/status."""
    match = re.search(r"^HugetlbPages:\s*(\d{1,20}) kB$", status, re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def hugetlbfs_mounts(root: Root) -> tuple[str, ...] | Unknown:
    """Where hugetlbfs is mounted."""
    found = text(root, "/proc/self/mounts")
    if isinstance(found, Unknown):
        return found
    fields = (line.split() for line in found.splitlines())
    return tuple(part[1] for part in fields if len(part) > 2 and part[2] == "hugetlbfs")
