"""Machines to diagnose."""

from __future__ import annotations

from dataclasses import replace

from pykexec.flows.doctor import Row, diagnose
from pykexec.machine import (
    BootLoader,
    CpuNotes,
    DeviceTreeFirmware,
    HugePagePool,
    Iommus,
    KexecState,
    Machine,
    Modules,
    NoteArea,
    PcFirmware,
    PciDevice,
    RegionModule,
    Sysctls,
    Unknown,
)
from pykexec.memory.blocks import MemoryBlock, MemoryBlocks
from pykexec.memory.map import MemoryMap, MemoryRange, RangeType
from pykexec.memory.ranges import PhysRange, RangeSet

GIB = 1 << 30

MIB = 1 << 20

NO_FILE = Unknown("/proc/x: no such file or directory")

STATE = KexecState(
    loaded=False, crash_loaded=False, crash_size=64 << 10, crash_elfcorehdr_size=0,
    load_disabled=False, load_limit_reboot=-1, load_limit_panic=-1,
)  # fmt: skip

SYSCTLS = Sysctls(
    panic=10, panic_on_oops=1, unknown_nmi_panic=1, crash_kexec_post_notifiers=False,
    kptr_restrict=0,
)  # fmt: skip

NIC = PciDevice("0000:00:03.0", 0x020000, True, "virtio-pci")

BRIDGE = PciDevice("0000:00:01.0", 0x060400, True, "")

MODULES = Modules(
    disabled=False, signatures_required=False, region=None, region_inserted=False
)  # fmt: skip

HEALTHY = Machine(
    "healthy",
    memory_map=MemoryMap.of([MemoryRange(PhysRange(MIB, GIB), RangeType.RAM)]),
    memory_map_source="/proc/iomem",
    crash_kernel=RangeSet((PhysRange(0x3E000000, 0x3E010000),)),
    release="6.1.0-40-amd64",
    cmdline="quiet crashkernel=64K",
    totalram=GIB - 64 * MIB,
    cpus=(CpuNotes(0, 0x3FC1B400, 368),),
    vmcoreinfo=NoteArea(0x3A001000, 4132),
    page_offset_base=0xFFFF888000000000,
    firmware=PcFirmware(acpi_rsdp=0xF5B20, efi=None),
    config={
        f"CONFIG_{name}": "y"
        for name in (
            "KEXEC", "KEXEC_FILE", "CRASH_DUMP", "PROC_VMCORE", "HUGETLBFS", "RELOCATABLE",
        )
    },
    architecture="x86_64",
    memfree=700 * MIB,
    memavailable=800 * MIB,
    hugepages=(HugePagePool(2 * MIB, 4, 4, 0, 0), HugePagePool(GIB, 0, 0, 0, 0)),
    hugepage_users=(),
    memory_blocks=MemoryBlocks(
        128 * MIB, tuple(MemoryBlock(n, 128 * MIB, zones=("DMA32",), node=0) for n in range(1, 7))
    ),
    balloons=(),
    secure_boot=False,
    lockdown="none",
    capabilities=frozenset({"CAP_SYS_BOOT", "CAP_SYS_ADMIN", "CAP_SYS_MODULE"}),
    seccomp=False,
    kexec=STATE,
    sysctls=SYSCTLS,
    symbols=frozenset({"kexec_image", "relocate_kernel", "crashk_res", "__kexec_lock"}),
    symbols_hidden=False,
    modules=MODULES,
    cpu_flags=frozenset({"lm"}),
    pci_devices=(BRIDGE, NIC),
    iommu_groups=3,
    iommus=Iommus(("dmar0",), RangeSet(), RangeSet(), None),
    bootloader=BootLoader("/etc/default/grub", "update-grub"),
    kdump_service=None,
    reload_rules=(),
    kdump_units=(),
)  # fmt: skip

TREE = DeviceTreeFirmware(
    tree=bytes(100), acpi=False, psci="hvc", cpu_methods=frozenset({"psci"}), efi=None
)

ARM = replace(HEALTHY, architecture="aarch64", page_size=16 << 10, firmware=TREE)

WITHOUT = replace(
    HEALTHY, cmdline="quiet", crash_kernel=RangeSet(), kexec=replace(STATE, crash_size=0)
)

MODULE = RegionModule("/lib/modules/pykexec_region.ko", "6.1.0-40-amd64", signed=False)

WITH_MODULE = replace(WITHOUT, modules=replace(MODULES, region=MODULE))


def row(machine: Machine, name: str) -> Row:
    (found,) = [row for row in diagnose(machine) if row.name == name]
    return found


def kexec(**changes: object) -> Machine:
    return replace(HEALTHY, kexec=replace(STATE, **changes))  # type: ignore[arg-type]


def sysctls(**changes: object) -> Machine:
    return replace(HEALTHY, sysctls=replace(SYSCTLS, **changes))  # type: ignore[arg-type]


def config(**options: str) -> Machine:
    assert isinstance(HEALTHY.config, dict)
    changed = {f"CONFIG_{name}": value for name, value in options.items()}
    return replace(HEALTHY, config=HEALTHY.config | changed)
