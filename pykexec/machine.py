"""Everything that a plan needs to know of a computer, as one frozen value.

A fact that could not be read is `Unknown`, with the reason; it is never a
default. Who reads: `host/` for a real or captured machine, the simulated
kernel for its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pykexec.memory.map import MemoryMap
from pykexec.memory.ranges import RangeSet


@dataclass(frozen=True, slots=True)
class Unknown:
    """A fact that could not be read, and why."""

    why: str

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return f"unknown: {self.why}"


@dataclass(frozen=True, slots=True)
class CpuNotes:
    """Where one CPU leaves its NT_PRSTATUS (/sys/devices/system/cpu/cpuN/crash_notes)."""

    cpu: int
    addr: int
    size: int


@dataclass(frozen=True, slots=True)
class NoteArea:
    """Physical address and size in bytes of a note, e.g. /sys/kernel/vmcoreinfo."""

    addr: int
    size: int


NOT_READ = Unknown("not read")


@dataclass(frozen=True)
class Machine:
    """The facts; sizes in bytes, addresses physical unless a name says otherwise."""

    name: str
    memory_map: MemoryMap | Unknown = NOT_READ
    memory_map_source: str = ""
    kernel_image: RangeSet | Unknown = NOT_READ
    """Kernel code, rodata, data and bss of the running kernel."""
    crash_kernel: RangeSet | Unknown = NOT_READ
    """The reserved regions; an empty set where nothing is reserved."""
    release: str | Unknown = NOT_READ
    cmdline: str | Unknown = NOT_READ
    totalram: int | Unknown = NOT_READ
    """totalram_pages in bytes: MemTotal, without the reservation."""
    cpus: tuple[CpuNotes, ...] | Unknown = NOT_READ
    vmcoreinfo: NoteArea | Unknown = NOT_READ
    page_offset_base: int | Unknown = NOT_READ
    """Virtual address of the direct map's first byte; KASLR moves it."""
    boot_params: bytes | Unknown = NOT_READ
    acpi_rsdp: int | Unknown = NOT_READ
    config: dict[str, str] | Unknown = field(default=NOT_READ, hash=False)
    """The kernel's build options, e.g. {"CONFIG_KEXEC": "y"}."""
