"""Everything that a plan needs to know about a computer, as one frozen value.

A fact that could not be read is `Unknown`, with the reason; it is never a default. `host/` reads a
real or captured machine, the simulated kernel its own.
"""

from __future__ import annotations

import re
from dataclasses import field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, TypeVar

from pykexec.arch import Arch, arch_named
from pykexec.errors import NotSupported
from pykexec.frozen import dataclass
from pykexec.memory.assumed import assumed_map
from pykexec.memory.ranges import PhysRange, RangeSet
from pykexec.remedies import Advice, Use, Wish, any_of

if TYPE_CHECKING:
    from pykexec.memory.blocks import MemoryBlocks
    from pykexec.memory.map import MemoryMap


@dataclass(frozen=True, slots=True)
class Unknown:
    """A fact that could not be read, and why."""

    why: str

    def __bool__(self) -> Literal[False]:
        return False

    def __str__(self) -> str:
        return f"unknown: {self.why}"


NOT_READ = Unknown("not read")
Fact = TypeVar("Fact")
NEEDS_ROOT = any_of(
    "run as root", Use(Wish.MACHINE, "DIR"), Use(Wish.ROOT, "FILE of a captured machine")
)


def known(
    fact: Fact | Unknown, what: str, hint: Advice = "run pykexec doctor to see what can be read"
) -> Fact:
    """The fact. Raises NotSupported with `what` and the reason if it is unknown."""
    if isinstance(fact, Unknown):
        raise NotSupported(f"{what} is {fact}", hint=hint)
    return fact


@dataclass(frozen=True, slots=True)
class CpuNotes:
    """Where one CPU saves its NT_PRSTATUS (/sys/devices/system/cpu/cpuN/crash_notes)."""

    cpu: int
    addr: int
    size: int


@dataclass(frozen=True, slots=True)
class NoteArea:
    """Physical address and size in bytes of a note, e.g. /sys/kernel/vmcoreinfo."""

    addr: int
    size: int


@dataclass(frozen=True, slots=True)
class KernelMapping:
    """Memory that is mapped at the virtual address `vaddr`."""

    vaddr: int
    range: PhysRange


@dataclass(frozen=True, slots=True)
class EfiRuntimeRange:
    """One entry of /sys/firmware/efi/runtime-map: struct efi_memory_desc_t."""

    type: int
    phys_addr: int
    virt_addr: int
    num_pages: int
    attribute: int


@dataclass(frozen=True, slots=True)
class Efi:
    """/sys/firmware/efi; addresses are those that the first kernel was passed."""

    systab: dict[str, int] = field(default_factory=dict, hash=False)
    """Tables in the systab file by name, e.g. {"ACPI20": 0x7fb7e014}."""
    fw_vendor: int | Unknown = NOT_READ
    runtime: int | Unknown = NOT_READ
    config_table: int | Unknown = NOT_READ
    runtime_map: tuple[EfiRuntimeRange, ...] = ()


class ExceptionLevel(StrEnum):
    """Where the boot loader started an arm64 kernel; without VHE it runs at EL1 in any case."""

    EL1 = "EL1"
    EL2 = "EL2"
    EL2_VHE = "EL2 with VHE"


@dataclass(frozen=True, slots=True)
class DeviceTreeFirmware:
    """What the firmware, the boot loader or the EFI stub passed to the running kernel."""

    tree: bytes | Unknown = NOT_READ
    """The flattened device tree (/sys/firmware/fdt), a nearly empty one if there is ACPI."""
    acpi: bool | Unknown = NOT_READ
    """Whether ACPI tables describe the hardware, and not the tree."""
    psci: Literal["smc", "hvc"] | Unknown | None = NOT_READ
    """The instruction that calls the firmware (PSCI); None if there is no such firmware."""
    cpu_methods: frozenset[str] | Unknown = NOT_READ
    """How CPUs are started, e.g. "psci", "spin-table"; a CPU that is started by a spin-table cannot
    be switched off."""
    exception_level: ExceptionLevel | Unknown = NOT_READ
    """The kernel starts the next one at the same level."""
    efi: Efi | Unknown | None = NOT_READ
    """None if the machine was not booted through EFI."""


@dataclass(frozen=True, slots=True)
class PcFirmware:
    """What the firmware and the boot loader of a PC passed to the running kernel."""

    boot_params: bytes | Unknown = NOT_READ
    """struct boot_params, 4096 bytes."""
    memory_map: MemoryMap | Unknown = NOT_READ
    """The map from the firmware, without changes by mem= and memmap= of the running kernel."""
    acpi_rsdp: int | Unknown = NOT_READ
    acpi_rsdp_table: bytes | Unknown = NOT_READ
    """The bytes there: 20 for ACPI 1.0, 36 since."""
    efi: Efi | Unknown | None = NOT_READ
    """None if the machine was not booted through EFI."""


@dataclass(frozen=True, slots=True)
class KexecState:
    """What the kernel reports about its images, and whether it accepts another."""

    in_kernel: bool | Unknown = NOT_READ
    """Whether the kernel was built with any kexec system call (CONFIG_KEXEC_CORE)."""
    loaded: bool | Unknown = NOT_READ
    crash_loaded: bool | Unknown = NOT_READ
    crash_size: int | Unknown = NOT_READ
    """Bytes reserved for a crash kernel."""
    crash_elfcorehdr_size: int | Unknown = NOT_READ
    load_disabled: bool | Unknown = NOT_READ
    load_limit_reboot: int | Unknown = NOT_READ
    """Loads (and unloads) that are still allowed; -1 means no limit."""
    load_limit_panic: int | Unknown = NOT_READ


@dataclass(frozen=True, slots=True)
class RegionModule:
    """The file of the module that creates a crash region (pykexec_region.ko)."""

    path: str
    release: str | Unknown
    """The kernel it was built for, from its vermagic."""
    signed: bool | Unknown


@dataclass(frozen=True, slots=True)
class Modules:
    """Whether kernel modules can be inserted, and the one that creates a crash region."""

    disabled: bool | Unknown = NOT_READ
    """kernel.modules_disabled: if set, no module can be inserted until the next boot."""
    signatures_required: bool | Unknown = NOT_READ
    region: RegionModule | Unknown | None = NOT_READ
    """The module installed for the running kernel, or None."""
    region_inserted: bool | Unknown = NOT_READ


@dataclass(frozen=True, slots=True)
class Sysctls:
    """Settings that decide when the kernel panics, and what happens then."""

    panic: int | Unknown = NOT_READ
    """Seconds until a reboot after a panic; 0 waits forever."""
    panic_on_oops: int | Unknown = NOT_READ
    unknown_nmi_panic: int | Unknown = NOT_READ
    crash_kexec_post_notifiers: bool | Unknown = NOT_READ
    kptr_restrict: int | Unknown = NOT_READ


@dataclass(frozen=True, slots=True)
class HugePagePool:
    """/sys/kernel/mm/hugepages/hugepages-*; `page_size` in bytes, the rest in pages."""

    page_size: int
    total: int
    free: int
    reserved: int
    surplus: int


@dataclass(frozen=True, slots=True)
class HugePageUser:
    """A process that has huge pages mapped."""

    pid: int
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class SerialConsole:
    """A UART: compatible with the 8250, or a PL011."""

    name: str
    """The name of its tty, or "uart"."""
    address: int
    """An I/O port, or a physical address if it is `in_memory`, which is 0 if hidden."""
    in_memory: bool
    speed: int | None
    """In baud; None to leave it unchanged."""
    shift: int
    """Its registers are 1 << shift bytes apart."""
    source: str
    """What named it, e.g. "console=ttyS1,9600"."""
    model: Literal["8250", "PL011"] = "8250"
    width: int = 1
    """Bytes of an access to a register in memory: 1, 2 or 4; 0 for a form that is not supported."""


@dataclass(frozen=True, slots=True)
class PciDevice:
    """One function, its class code (24 bits) and the driver bound to it ("" for none)."""

    address: str
    class_code: int
    bus_master: bool
    driver: str

    @property
    def is_bridge(self) -> bool:
        """Base class 06: a bridge is a bus master for the devices behind it."""
        return self.class_code >> 16 == 0x06


@dataclass(frozen=True, slots=True)
class Iommus:
    """The IOMMUs in /sys/class/iommu, e.g. "dmar0", and the memory that they use."""

    names: tuple[str, ...]
    reserved: RangeSet
    """Ranges that firmware reserves for devices: RMRRs of DMAR, IVMDs of IVRS."""
    tables: RangeSet
    """Their tables and queues, except page tables."""
    why_unknown: str | None
    """Why `tables` is empty; None if it has all of them."""

    @property
    def memory(self) -> RangeSet:
        """All memory that is known to be in use."""
        return self.reserved | self.tables


@dataclass(frozen=True, slots=True)
class BootLoader:
    """The file with the kernel command line, and the command that applies a change: empty if the
    file is read at the next boot."""

    file: str
    apply: str


@dataclass(frozen=True)
class Machine:
    """The facts; sizes are in bytes, and addresses physical unless the name says otherwise."""

    name: str
    memory_map: MemoryMap | Unknown = NOT_READ
    memory_map_source: str = ""
    out_of_reach: RangeSet | Unknown = NOT_READ
    """RAM in the maps that no processor can address; it has been removed from both."""
    kernel_image: RangeSet | Unknown = NOT_READ
    """Kernel code, rodata, data and bss of the running kernel."""
    per_cpu: RangeSet | Unknown = NOT_READ
    """The static per-CPU data of each CPU, in whole pages, with the stacks of exceptions and
    NMIs."""
    crash_kernel: RangeSet | Unknown = NOT_READ
    """The reserved regions; empty if nothing is reserved."""
    release: str | Unknown = NOT_READ
    cmdline: str | Unknown = NOT_READ
    totalram: int | Unknown = NOT_READ
    """totalram_pages in bytes: MemTotal, without the reservation."""
    cpus: tuple[CpuNotes, ...] | Unknown = NOT_READ
    vmcoreinfo: NoteArea | Unknown = NOT_READ
    page_offset_base: int | Unknown = NOT_READ
    """Virtual address of the direct map's first byte; KASLR moves it."""
    kernel_mapping: KernelMapping | Unknown = NOT_READ
    """Where the kernel's image is mapped, from _text to _end."""
    firmware: PcFirmware | DeviceTreeFirmware = PcFirmware()
    config: dict[str, str] | Unknown = field(default=NOT_READ, hash=False)
    """The kernel's build options, e.g. {"CONFIG_KEXEC": "y"}; "n" for "is not set"."""
    architecture: str | Unknown = NOT_READ
    """As printed by uname -m."""
    page_size: int | Unknown = NOT_READ
    """Bytes of a page of the running kernel; `arch` has it for an architecture with one size."""
    memfree: int | Unknown = NOT_READ
    memavailable: int | Unknown = NOT_READ
    memory_blocks: MemoryBlocks | Unknown = NOT_READ
    """Unknown if the kernel cannot take memory offline."""
    balloons: tuple[str, ...] | Unknown = NOT_READ
    """Balloon drivers that are bound, e.g. "virtio_balloon"."""
    swap_in_memory: tuple[str, ...] | Unknown = NOT_READ
    """Users of compressed pages in movable memory, e.g. "zram0", "zswap"."""
    hugepages: tuple[HugePagePool, ...] | Unknown = NOT_READ
    hugepage_users: tuple[HugePageUser, ...] | Unknown = NOT_READ
    hugetlbfs_mounts: tuple[str, ...] | Unknown = NOT_READ
    secure_boot: bool | Unknown = NOT_READ
    lockdown: str | Unknown = NOT_READ
    """"none", "integrity" or "confidentiality"."""
    capabilities: frozenset[str] | Unknown = NOT_READ
    """The effective capabilities of this process, e.g. "CAP_SYS_BOOT"."""
    seccomp: bool | Unknown = NOT_READ
    """Whether a seccomp filter restricts the system calls of this process."""
    kexec: KexecState = KexecState()
    modules: Modules = Modules()
    sysctls: Sysctls = Sysctls()
    symbols: frozenset[str] | Unknown = NOT_READ
    """Those of the kernel symbols that distinguish versions which are in /proc/kallsyms."""
    symbols_hidden: bool | Unknown = NOT_READ
    """Whether /proc/kallsyms shows zeros for addresses."""
    cpu_flags: frozenset[str] | Unknown = NOT_READ
    """Flags of the first CPU in /proc/cpuinfo, e.g. "la57", "pdpe1gb"."""
    tsc_khz: int | Unknown = NOT_READ
    """Frequency of the time stamp counter, if the kernel uses it as a clock."""
    sme_mask: int | Unknown = NOT_READ
    """NUMBER(sme_mask) of VMCOREINFO: 0 if neither AMD SME nor SEV encrypts this kernel's pages,
    otherwise the encryption bit of page table entries."""
    snp_guest: bool | Unknown = NOT_READ
    """Whether firmware or kernel reports that this is an AMD SEV-SNP guest."""
    pci_devices: tuple[PciDevice, ...] | Unknown = NOT_READ
    iommu_groups: int | Unknown = NOT_READ
    """Groups in /sys/kernel/iommu_groups; 0 if no IOMMU translates."""
    iommus: Iommus | Unknown = NOT_READ
    console: SerialConsole | Unknown | None = NOT_READ
    """The serial console of the running kernel, or None."""
    bootloader: BootLoader | Unknown = NOT_READ
    kdump_service: str | Unknown | None = NOT_READ
    """The configuration file of the distribution's kdump service, or None."""
    reload_rules: tuple[str, ...] | Unknown = NOT_READ
    """Files with udev rules by which another program reloads its crash image, which frees ours."""
    kdump_units: tuple[str, ...] | Unknown = NOT_READ
    """The enabled services of other programs that load a crash image."""

    @property
    def known_map(self) -> MemoryMap:
        """The memory map. Raises NotSupported if it is unknown: then nothing can be placed."""
        return known(
            self.memory_map,
            f"the memory map of {self.name}",
            NEEDS_ROOT,
        )

    @property
    def hardware_memory(self) -> RangeSet:
        """Memory that is known to be used by the hardware itself, whoever owns the pages."""
        return RangeSet() if isinstance(self.iommus, Unknown) else self.iommus.memory

    @property
    def arch(self) -> Arch | None:
        """The architecture of the running kernel, with its page size; None if either is unknown or
        not supported. Compare its `name`: one with another page size is another value."""
        found = arch_named(self.architecture) if isinstance(self.architecture, str) else None
        return found.with_page_size(self.page_size or None) if found else None

    @property
    def known_arch(self) -> Arch:
        """The same as `arch`. Raises NotSupported if that is None."""
        if found := self.arch:
            return found
        name = known(self.architecture, f"the architecture of {self.name}")
        if arch_named(name) is None:
            raise NotSupported(
                f"{self.name} is of the architecture {name}",
                hint="see pykexec doctor for what is supported",
            )
        size = known(
            self.page_size,
            f"the page size of {self.name}",
            "capture it again with /proc/self/auxv, or with the configuration of its kernel",
        )
        raise NotSupported(
            f"{self.name} has pages of {size} bytes", hint=f"{name} has no pages of this size"
        )

    @property
    def has_nmi_sysctl(self) -> bool:
        """Whether the kernel has kernel.unknown_nmi_panic (arch/x86/kernel/nmi.c)."""
        return isinstance(self.firmware, PcFirmware)

    @property
    def pc(self) -> PcFirmware:
        """The firmware of a PC, of which nothing is known if the machine is none."""
        return self.firmware if isinstance(self.firmware, PcFirmware) else PcFirmware()

    def without_efi(self) -> Machine:
        """The machine as if it had not been booted through EFI, so that the next kernel does not
        use EFI."""
        return replace(self, firmware=replace(self.firmware, efi=None))

    def option(self, name: str) -> str | Unknown:
        """A build option: "y", "m", its value, or "n" if the configuration lacks it."""
        if isinstance(self.config, Unknown):
            return self.config
        return self.config.get(name, "n")

    def with_assumed_map(self) -> Machine:
        """The machine for a dry run without a memory map: the machine with a map that is assumed
        from MemTotal, and marked so. The machine itself if its map is known."""
        if not isinstance(self.memory_map, Unknown) or isinstance(self.totalram, Unknown):
            return self
        return replace(
            self,
            memory_map=assumed_map(self.totalram),
            memory_map_source=f"assumed from MemTotal ({self.memory_map.why})",
            firmware=replace(self.pc, memory_map=NOT_READ),
        )


def version(release: str) -> tuple[int, int, int] | None:
    """The number at the start of a release, e.g. (6, 1, 0) of "6.1.0-40-amd64"."""
    match = re.match(r"(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?(?!\d)", release)
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else None
