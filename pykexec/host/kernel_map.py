"""The running kernel's mappings: the direct map, the kernel image, and per-CPU memory."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pykexec.abi.elf import EHDR, ELFMAG, EM_AARCH64, PHDR, PT_LOAD, file_header
from pykexec.abi.x86.x86_64 import START_KERNEL_MAP
from pykexec.frozen import dataclass
from pykexec.machine import CpuNotes, KernelMapping, Unknown
from pykexec.memory.ranges import PhysRange, RangeSet

if TYPE_CHECKING:
    from pykexec.abi.record import Record
    from pykexec.host.root import Root

KALLSYMS = "/proc/kallsyms"
KCORE = "/proc/kcore"
NO_PADDR = (1 << 64) - 1
OFFSETS, AREA_START, AREA_END = PER_CPU_SYMBOLS = (
    "__per_cpu_offset",
    "__per_cpu_start",
    "__per_cpu_end",
)
POINTER = struct.Struct("<Q")
AREA_MAX = 16 << 20
"""Limit in bytes for static per-CPU data; real kernels have some 200 KiB."""


@dataclass(frozen=True, slots=True)
class KcoreLoad:
    """One PT_LOAD of /proc/kcore: `size` bytes at a virtual address, a physical one (or None), and
    their file offset."""

    vaddr: int
    paddr: int | None
    offset: int
    size: int
    in_direct_map: bool

    def holds(self, addr: int, size: int) -> bool:
        """Whether `size` bytes at a virtual address are in it."""
        return self.vaddr <= addr and addr + size <= self.vaddr + self.size


def kcore_loads(root: Root) -> tuple[KcoreLoad, ...] | Unknown:
    """The memory of /proc/kcore (fs/proc/kcore.c:read_kcore_iter)."""
    headers, fields = program_headers(root), _file_header(root)
    if isinstance(headers, Unknown):
        return headers
    if isinstance(fields, Unknown):
        return fields
    loads = [entry for entry in headers if entry[0] == PT_LOAD]
    end = _direct_map_end(fields.e_machine, loads)
    return tuple(
        KcoreLoad(
            vaddr=entry[3],
            paddr=None if entry[4] == NO_PADDR else entry[4],
            offset=entry[2],
            size=entry[5],
            in_direct_map=entry[4] != NO_PADDR and entry[3] < end,
        )
        for entry in loads
    )


def _direct_map_end(machine: int, loads: Iterable[tuple[int, ...]]) -> int:
    """A virtual address above the direct map, and not above the kernel's image.

    On arm64 the direct map is the lower half of the kernel's addresses (Documentation/arch/arm64/
    memory.rst), whose number the configuration decides; the kernel's image is the highest entry
    with a physical address, and is mapped at another distance than the direct map."""
    if machine != EM_AARCH64:
        return START_KERNEL_MAP
    mapped = sorted((entry[3], entry[4]) for entry in loads if entry[4] != NO_PADDR)
    if not mapped or mapped[-1][0] - mapped[-1][1] == mapped[0][0] - mapped[0][1]:
        return 1 << 64
    return mapped[-1][0]


def _file_header(root: Root) -> Record | Unknown:
    """The ELF header of /proc/kcore."""
    header = root.head(KCORE, EHDR.size)
    if isinstance(header, Unknown):
        return header
    if len(header) < EHDR.size or header[:5] != ELFMAG + b"\2":
        return Unknown(f"{KCORE}: not an ELF64 file")
    return file_header(header)


def program_headers(root: Root) -> tuple[tuple[int, ...], ...] | Unknown:
    """Every program header of /proc/kcore, with its fields in order."""
    fields = _file_header(root)
    if isinstance(fields, Unknown):
        return fields
    phoff, phnum = fields.e_phoff, fields.e_phnum
    if phoff != EHDR.size:
        return Unknown(
            f"{KCORE}: program headers at {phoff:#x} instead of directly after the header"
        )
    end = EHDR.size + PHDR.size * phnum
    table = root.head(KCORE, end)
    if isinstance(table, Unknown):
        return table
    if len(table) < end:
        return Unknown(f"{KCORE}: ends within its program headers")
    return tuple(PHDR.iter_unpack(table[EHDR.size : end]))


def page_offset_base(loads: Iterable[KcoreLoad] | Unknown) -> int | Unknown:
    """A RAM entry of /proc/kcore has p_paddr, and is in the direct map at p_vaddr."""
    if isinstance(loads, Unknown):
        return loads
    bases = {
        load.vaddr - load.paddr for load in loads if load.paddr is not None and load.in_direct_map
    }
    if len(bases) != 1 or min(bases) < 1 << 63:
        return Unknown(f"{KCORE}: the program headers do not show the direct map")
    return bases.pop()


def kernel_mapping(loads: Iterable[KcoreLoad] | Unknown) -> KernelMapping | Unknown:
    """The entry of the kernel's image, KCORE_TEXT, which has p_paddr since 4.19
    (fs/proc/kcore.c); the entries of modules have none."""
    if isinstance(loads, Unknown):
        return loads
    for load in loads:
        if load.in_direct_map or load.paddr is None or not load.size:
            continue
        if max(load.paddr, load.vaddr) + load.size <= 1 << 64:
            return KernelMapping(load.vaddr, PhysRange.sized(load.paddr, load.size))
    return Unknown(f"{KCORE}: no entry shows where the kernel's image is")


def per_cpu_areas(
    root: Root,
    symbols: dict[str, int] | Unknown,
    cpus: tuple[CpuNotes, ...] | Unknown,
    loads: tuple[KcoreLoad, ...] | Unknown,
    page_size: int | Unknown,
) -> RangeSet | Unknown:
    """The static data of every CPU, in pages (arch/x86/kernel/setup_percpu.c).

    It includes the stacks of exceptions and NMIs (cpu_entry_area.c), on which the other CPUs halt
    after a panic. Physical addresses; the kernel has them in its direct map.
    """
    if isinstance(symbols, Unknown):
        return symbols
    if isinstance(cpus, Unknown):
        return cpus
    if isinstance(loads, Unknown):
        return loads
    if isinstance(page_size, Unknown):
        return page_size
    base = page_offset_base(loads)
    if isinstance(base, Unknown):
        return base
    start, size = symbols.get(AREA_START, 0), symbols.get(AREA_END, 0) - symbols.get(AREA_START, 0)
    if not symbols.get(OFFSETS) or not 0 < size <= AREA_MAX:
        return Unknown(f"{KALLSYMS}: does not list {', '.join(PER_CPU_SYMBOLS)}")
    areas = []
    for cpu in cpus:
        at = symbols[OFFSETS] + POINTER.size * cpu.cpu
        offset = virtual(root, loads, at, POINTER.size)
        if isinstance(offset, Unknown):
            return offset
        addr = (start + POINTER.unpack(offset)[0]) % (1 << 64)
        if not any(load.in_direct_map and load.holds(addr, size) for load in loads):
            return Unknown(f"{KCORE}: the data of CPU {cpu.cpu} is not in the direct map")
        areas.append(PhysRange.sized(addr - base, size).outward(page_size))
    return RangeSet.of(areas)


def virtual(root: Root, loads: tuple[KcoreLoad, ...], addr: int, size: int) -> bytes | Unknown:
    """`size` bytes of the kernel at a virtual address."""
    for load in loads:
        if load.holds(addr, size):
            return root.part(KCORE, load.offset + addr - load.vaddr, size)
    return Unknown(f"{KCORE}: does not have {size:#x} bytes at virtual {addr:#x}")


def physical(root: Root, loads: tuple[KcoreLoad, ...], addr: int, size: int) -> bytes | Unknown:
    """`size` bytes of RAM at a physical address, through the direct map."""
    base = page_offset_base(loads)
    return base if isinstance(base, Unknown) else virtual(root, loads, base + addr, size)
