from __future__ import annotations

from dataclasses import replace

import pytest

from pykexec.backends.backend import Slot
from pykexec.backends.kernel.record import LoadRecord
from pykexec.flows.doctor import Level, Row, diagnose, problems
from pykexec.flows.doctor.loaded import Ours
from pykexec.machine import (
    BootLoader,
    CpuNotes,
    DeviceTreeFirmware,
    Efi,
    HugePagePool,
    HugePageUser,
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
from pykexec.placement.encryption import BY_FILE
from pykexec.placement.request import Mode

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


def test_healthy_machine_has_nothing_to_fix() -> None:
    assert [str(row) for row in diagnose(HEALTHY) if row.level is not Level.OK or row.fix] == []
    assert list(problems(diagnose(HEALTHY))) == []


def test_every_row_of_an_unread_machine_is_unknown() -> None:
    rows = diagnose(Machine("m"))
    assert {row.level for row in rows} == {Level.UNKNOWN}
    assert [row.name for row in rows] == [row.name for row in diagnose(HEALTHY)]
    assert len({row.name for row in rows}) == len(rows)
    assert all("not read" in row.evidence for row in rows)


@pytest.mark.parametrize("size", [Unknown("no auxv"), 12345])
def test_a_diagnosis_goes_on_without_a_page_size(size: int | Unknown) -> None:
    found = {row.name: row for row in diagnose(replace(ARM, page_size=size))}
    assert set(found) == {row.name for row in diagnose(ARM)}
    assert found["movable memory"].level is Level.UNKNOWN
    assert found["memory encryption"].level is Level.UNKNOWN


def test_row_as_issue_text() -> None:
    assert str(Row("lockdown", Level.FAIL, "integrity", "boot without")) == (
        "fail    lockdown: integrity -> boot without"
    )
    assert str(Row("seccomp", Level.OK, "no filter")) == "ok      seccomp: no filter"


def test_no_address_is_told() -> None:
    text = "\n".join(str(row) for row in diagnose(HEALTHY))
    for secret in (0x3A001000, 0xFFFF888000000000, 0x3FC1B400, 0x3E000000):
        assert f"{secret:x}" not in text


def kexec(**changes: object) -> Machine:
    return replace(HEALTHY, kexec=replace(STATE, **changes))  # type: ignore[arg-type]


def sysctls(**changes: object) -> Machine:
    return replace(HEALTHY, sysctls=replace(SYSCTLS, **changes))  # type: ignore[arg-type]


def config(**options: str) -> Machine:
    assert isinstance(HEALTHY.config, dict)
    changed = {f"CONFIG_{name}": value for name, value in options.items()}
    return replace(HEALTHY, config=HEALTHY.config | changed)


ROWS: list[tuple[str, Machine, Row]] = [
    (
        "not root",
        replace(HEALTHY, capabilities=frozenset[str]()),
        Row("CAP_SYS_BOOT", Level.FAIL, "CapEff in /proc/self/status lacks it",
            "run as root, outside of containers"),
    ),
    (
        "in a container",
        replace(HEALTHY, seccomp=True),
        Row("seccomp", Level.WARN, "a filter restricts the system calls of this process",
            "run outside of containers and sandboxes, where kexec_load returns EPERM or ENOSYS"),
    ),
    (
        "the one-way switch",
        kexec(load_disabled=True),
        Row("kexec_load_disabled", Level.FAIL, "kernel.kexec_load_disabled is 1",
            "only a reboot clears it: remove the sysctl from /etc/sysctl.d"),
    ),
    (
        "a kernel before 6.3 has no limits",
        kexec(load_limit_panic=NO_FILE),
        Row("kexec_load_limit_panic", Level.OK, "this kernel has no such limit"),
    ),
    (
        "a limit that is not used up",
        kexec(load_limit_reboot=2),
        Row("kexec_load_limit_reboot", Level.WARN, "2 left",
            "use --dry-run first: every load and unload counts, even a failed one"),
    ),
    (
        "a limit that is",
        kexec(load_limit_reboot=0),
        Row("kexec_load_limit_reboot", Level.FAIL, "0 left", "only a reboot resets it"),
    ),
    (
        "locked down",
        replace(HEALTHY, lockdown="integrity"),
        Row("lockdown", Level.WARN, "integrity: kexec_load is disabled",
            "load a signed kernel with kexec_file_load, or turn Secure Boot off, and "
                "boot without lockdown="),
    ),
    (
        "locked down further",
        replace(HEALTHY, lockdown="confidentiality"),
        Row("lockdown", Level.WARN, "confidentiality: kexec_load and /proc/kcore are disabled",
            "load a signed kernel with kexec_file_load, or turn Secure Boot off, and "
                "boot without lockdown="),
    ),
    (
        "locked down, and the other call is not there",
        replace(config(KEXEC_FILE="n"), lockdown="integrity"),
        Row("lockdown", Level.FAIL, "integrity: kexec_load is disabled",
            "turn Secure Boot off, and boot without lockdown="),
    ),
    (
        "Secure Boot",
        replace(HEALTHY, firmware=PcFirmware(efi=Efi()), secure_boot=True),
        Row("Secure Boot", Level.WARN, "on",
            "kernels of distributions lock down then: see lockdown"),
    ),
    (
        "EFI without it",
        replace(HEALTHY, firmware=PcFirmware(efi=Efi())),
        Row("Secure Boot", Level.OK, "off"),
    ),
    (
        "signatures are required",
        config(KEXEC_SIG_FORCE="y"),
        Row("kernel signature", Level.WARN, "CONFIG_KEXEC_SIG_FORCE=y",
            "kexec_file_load accepts only signed kernels"),
    ),
    (
        "signatures are looked at",
        config(KEXEC_SIG="y"),
        Row("kernel signature", Level.OK,
            "checked by kexec_file_load, but not required (CONFIG_KEXEC_SIG=y)"),
    ),
    (
        "no kexec_load",
        config(KEXEC="n"),
        Row("CONFIG_KEXEC", Level.WARN, "is not set: this kernel has no kexec_load",
            "use a kernel with CONFIG_KEXEC for crash by normal"),
    ),
    (
        "no kexec_file_load",
        config(KEXEC_FILE="n"),
        Row("CONFIG_KEXEC_FILE", Level.WARN, "is not set: this kernel has no kexec_file_load",
            "use a kernel with it where the kernel is locked down, which can load nothing else"),
    ),
    (
        "what a load would use",
        HEALTHY,
        Row("system call", Level.OK, "kexec_load: it places the image as planned"),
    ),
    (
        "no kexec at all",
        config(KEXEC="n", KEXEC_FILE="n"),
        Row("system call", Level.FAIL,
            "this kernel has no kexec system call: CONFIG_KEXEC and CONFIG_KEXEC_FILE are not set",
            "boot a kernel with CONFIG_KEXEC=y, such as that of a distribution"),
    ),
    (
        "no kexec at all, and no remedy that is none",
        config(KEXEC="n", KEXEC_FILE="n"),
        Row("CONFIG_KEXEC_FILE", Level.FAIL, "is not set: this kernel has no kexec_file_load",
            "boot a kernel with CONFIG_KEXEC=y, such as that of a distribution"),
    ),
    (
        "another architecture",
        replace(HEALTHY, architecture="riscv64"),
        Row("architecture", Level.FAIL, "riscv64",
            "use this machine only to plan and rehearse loads for x86_64"),
    ),
    (
        "arm64",
        ARM,
        Row("architecture", Level.OK, "aarch64, pages of 16 KiB"),
    ),
    (
        "arm64 with an unknown page size",
        replace(ARM, page_size=Unknown("no auxv")),
        Row("architecture", Level.UNKNOWN, "no auxv"),
    ),
    (
        "arm64 with a page size that it cannot have",
        replace(ARM, page_size=12345),
        Row("architecture", Level.FAIL, "aarch64, pages of 12345 bytes",
            "capture the machine again"),
    ),
    (
        "a device tree",
        ARM,
        Row("device tree", Level.OK, "100 bytes"),
    ),
    (
        "a device tree beside ACPI",
        replace(ARM, firmware=replace(TREE, acpi=True)),
        Row("device tree", Level.OK, "100 bytes; ACPI tables describe the hardware"),
    ),
    (
        "a hidden device tree",
        replace(ARM, firmware=replace(TREE, tree=Unknown("not permitted"))),
        Row("device tree", Level.UNKNOWN, "not permitted", "run as root"),
    ),
    (
        "processors that the firmware switches off",
        ARM,
        Row("processors", Level.OK, "the firmware switches them on and off (psci, hvc)"),
    ),
    (
        "processors that stay on",
        replace(ARM, firmware=replace(TREE, cpu_methods=frozenset({"spin-table"}))),
        Row("processors", Level.WARN, "the kernel cannot switch them off (spin-table)",
            "only a capture kernel in the crash region can be loaded, unless there is one "
            "processor"),
    ),
    (
        "no encryption on arm64",
        ARM,
        Row("memory encryption", Level.OK, "none is known; realms are not recognized"),
    ),
    (
        "a 32-bit kernel",
        replace(HEALTHY, architecture="i686"),
        Row("architecture", Level.WARN, "i686",
            "use images with a 32-bit entry; crash images cannot be loaded"),
    ),
    (
        "this kernel swaps",
        HEALTHY,
        Row("pages at a kexec", Level.OK,
            "swapped: Linux 6.1.0 is older than 6.14, and has no kexec_pa_swap_page; "
            "CONFIG_KEXEC_JUMP is not set"),
    ),
    (
        "this kernel copies",
        replace(HEALTHY, release="7.3.4"),
        Row("pages at a kexec", Level.WARN,
            "copied: Linux 7.3.4 is 6.14 or later; CONFIG_KEXEC_JUMP is not set",
            "use another mode than kernel-swap; it needs a crash region"),
    ),
    (
        "this kernel swaps when asked to",
        replace(config(KEXEC_JUMP="y"), release="7.3.4"),
        Row("pages at a kexec", Level.OK,
            "swapped with KEXEC_PRESERVE_CONTEXT: Linux 7.3.4 is 6.14 or later; "
            "CONFIG_KEXEC_JUMP=y"),
    ),
    (
        "a normal image is loaded",
        kexec(loaded=True),
        Row("normal image", Level.WARN, "one is loaded already",
            "unload it if it is not wanted: init scripts start it at the next reboot, "
                "and a load replaces it"),
    ),
    (
        "kdump-tools has loaded a crash image",
        replace(kexec(crash_loaded=True), kdump_service="/etc/default/kdump-tools"),
        Row("crash image", Level.WARN,
            "one is loaded already (/etc/default/kdump-tools is installed)",
            "stop that service first: a crash load frees the old image even if it fails"),
    ),
    (
        "rules that reload",
        replace(HEALTHY, reload_rules=(
            "/usr/lib/udev/rules.d/50-kdump-tools.rules", "/etc/udev/rules.d/98-kexec.rules",
        )),
        Row("udev rules of other programs", Level.WARN,
            "/usr/lib/udev/rules.d/50-kdump-tools.rules, "
                "/etc/udev/rules.d/98-kexec.rules: on a memory or CPU event they may unload "
                "the crash image of pykexec",
            "ln -s /dev/null /etc/udev/rules.d/50-kdump-tools.rules; "
            "ln -s /dev/null /etc/udev/rules.d/98-kexec.rules"),
    ),
    (
        "services that load",
        replace(HEALTHY, kdump_units=("kdump-tools.service", "kdump.service")),
        Row("kdump services of other programs", Level.WARN,
            "kdump-tools.service, kdump.service: enabled, may unload the crash image of pykexec",
            "systemctl disable kdump-tools.service kdump.service"),
    ),
    (
        "kptr_restrict hides the symbols",
        replace(sysctls(kptr_restrict=2), symbols_hidden=True),
        Row("/proc/kallsyms", Level.WARN, "hides addresses (kernel.kptr_restrict is 2)",
            "sysctl kernel.kptr_restrict=1"),
    ),
    (
        "not root, so no symbols",
        replace(sysctls(kptr_restrict=1), symbols_hidden=True),
        Row("/proc/kallsyms", Level.WARN, "hides addresses (kernel.kptr_restrict is 1)",
            "run as root (CAP_SYSLOG)"),
    ),
    (
        "a kernel that lists functions only",
        replace(HEALTHY, symbols=frozenset({"relocate_kernel"})),
        Row("/proc/kallsyms", Level.WARN, "does not list kexec_image",
            "use a kernel with CONFIG_KALLSYMS_ALL=y for mode kernel-swap"),
    ),
    (
        "the firmware's map only",
        replace(HEALTHY, memory_map_source="/sys/firmware/memmap"),
        Row("memory map", Level.WARN, "1023 MiB of RAM in 1 range (/sys/firmware/memmap)",
            "run as root: the map lacks the kernel's own ranges"),
    ),
    (
        "a reservation that is large enough",
        HEALTHY,
        Row("crash region", Level.OK, "64 KiB, made at boot; a stub needs 44 KiB"),
    ),
    (
        "there is no crash region",
        WITHOUT,
        Row("crash region", Level.WARN,
            "there is no crash region, so a panic cannot start an image",
            "install the kernel module that makes one (pykexec region build, or DKMS), "
                "or add crashkernel=64K to /etc/default/grub, then run update-grub, then reboot"),
    ),
    (
        "and no module",
        WITHOUT,
        Row("region module", Level.WARN,
            "the kernel module pykexec_region is not installed for this kernel",
            "run pykexec region build, or use DKMS with the source in share/pykexec/module; or "
                "add crashkernel=64K to /etc/default/grub, then run update-grub, then reboot"),
    ),
    (
        "the module can make one",
        WITH_MODULE,
        Row("crash region", Level.WARN,
            "there is no crash region, so a panic cannot start an image",
            "run pykexec region make"),
    ),
    (
        "the module is at hand",
        WITH_MODULE,
        Row("region module", Level.OK,
            "/lib/modules/pykexec_region.ko (not signed) can make a crash region on "
            "6.1.0-40-amd64"),
    ),
    (
        "the module is not signed, and has to be",
        replace(WITH_MODULE, lockdown="integrity"),
        Row("region module", Level.WARN, "lockdown is integrity, and pykexec_region is not signed",
            "sign it with an enrolled key (mokutil), or add crashkernel=64K to "
                "/etc/default/grub, then run update-grub, then reboot"),
    ),
    (
        "a region that was made at run time",
        replace(HEALTHY, cmdline="quiet", modules=replace(MODULES, region_inserted=True)),
        Row("crash region", Level.OK, "64 KiB, made at run time; a stub needs 44 KiB"),
    ),
    (
        "64K is too small for 64 GiB without 1 GiB pages",
        replace(
            HEALTHY,
            memory_map=MemoryMap.of([MemoryRange(PhysRange(MIB, 64 * GIB), RangeType.RAM)]),
            bootloader=Unknown("no known boot loader"),
        ),
        Row("crash region", Level.WARN,
            "64 KiB, but a stub needs 296 KiB, so a panic cannot start a crash by normal",
            "boot with crashkernel=320K"),
    ),
    (
        "little memory is free",
        replace(HEALTHY, memavailable=100 * MIB),
        Row("memory", Level.WARN, "100 MiB of 960 MiB is available; a load can use at most 480 MiB",
            "free memory first, or load right after boot"),
    ),
    (
        "others use huge pages",
        replace(HEALTHY, hugepage_users=(HugePageUser(77, "qemu", 8 * MIB),)),
        Row("2 MiB huge pages", Level.OK,
            "4 in the pool, 4 free, 0 reserved; used by qemu [77] 8 MiB"),
    ),
    (
        "no huge pages of 2 MiB",
        replace(HEALTHY, hugepages=()),
        Row("2 MiB huge pages", Level.FAIL, "the kernel has no pool of huge pages",
            "the kernel needs CONFIG_HUGETLBFS=y"),
    ),
    (
        "memory for mode lent",
        HEALTHY,
        Row("movable memory", Level.OK,
            "mode lent (--keep kernel) can be tried: 2 blocks of 128 MiB would be made movable, "
            "and 512 MiB stay for the kernel"),
    ),
    (
        "a balloon driver",
        replace(HEALTHY, balloons=("virtio_balloon",)),
        Row("movable memory", Level.WARN,
            "mode lent is not possible: a balloon driver is active (virtio_balloon): the host can "
            "take movable memory back", "use mode in-place"),
    ),
    (
        "too little memory for mode lent",
        replace(HEALTHY, memory_blocks=MemoryBlocks(128 * MIB, (MemoryBlock(3, 128 * MIB),))),
        Row("movable memory", Level.WARN,
            "mode lent is not possible: no run of memory blocks can hold a window of 192 MiB (1 in "
            "several zones, or in ZONE_DMA)", "use mode in-place"),
    ),
    (
        "a kernel without memory hotplug",
        replace(HEALTHY, memory_blocks=Unknown("no CONFIG_MEMORY_HOTPLUG")),
        Row("movable memory", Level.UNKNOWN, "no CONFIG_MEMORY_HOTPLUG"),
    ),
    (
        "a BIOS machine hands no RSDP over",
        replace(HEALTHY, firmware=PcFirmware(acpi_rsdp=Unknown("nowhere"), efi=None)),
        Row("ACPI RSDP", Level.OK, "each kernel finds it below 1 MiB (BIOS)"),
    ),
    (
        "an EFI machine must",
        replace(HEALTHY, firmware=PcFirmware(acpi_rsdp=Unknown("nowhere"), efi=Efi())),
        Row("ACPI RSDP", Level.UNKNOWN, "nowhere", "run as root, or use --append acpi_rsdp=ADDR"),
    ),
    (
        "an oops is no panic",
        sysctls(panic_on_oops=0),
        Row("panic_on_oops", Level.WARN,
            "kernel.panic_on_oops is 0: most oopses kill a process and make no dump",
            "sysctl kernel.panic_on_oops=1"),
    ),
    (
        "a panic halts for ever",
        sysctls(panic=0),
        Row("kernel.panic", Level.WARN,
            "kernel.panic is 0: if no capture kernel starts, the machine halts forever",
            "sysctl kernel.panic=10"),
    ),
    (
        "a panic reboots at once",
        sysctls(panic=-1),
        Row("kernel.panic", Level.OK, "reboots at once"),
    ),
    (
        "notifiers come first",
        sysctls(crash_kexec_post_notifiers=True),
        Row("crash_kexec_post_notifiers", Level.WARN,
            "Y: panic notifiers run before the crash image starts, and may hang",
            "boot without crash_kexec_post_notifiers"),
    ),
    (
        "an NMI is no panic",
        sysctls(unknown_nmi_panic=0),
        Row("unknown_nmi_panic", Level.WARN,
            "kernel.unknown_nmi_panic is 0: an NMI from the BMC or hypervisor does not make a dump",
            "sysctl kernel.unknown_nmi_panic=1"),
    ),
    (
        "bridges are no bus masters of their own",
        replace(HEALTHY, pci_devices=(BRIDGE,)),
        Row("bus masters", Level.OK, "none"),
    ),
    (
        "a device that no driver will quiesce",
        replace(HEALTHY, pci_devices=(NIC, replace(NIC, address="0000:00:05.0", driver=""))),
        Row("bus masters", Level.WARN,
            "2 devices can write to memory: 0000:00:03.0 (virtio-pci), 0000:00:05.0 (no driver)",
            "nothing quiesces 0000:00:05.0: unbound, but still enabled"),
    ),
    (
        "many devices",
        replace(HEALTHY, pci_devices=(NIC,) * 8),
        Row("bus masters", Level.OK,
            "8 devices can write to memory: " + ", ".join(["0000:00:03.0 (virtio-pci)"] * 6)
            + " and 2 more"),
    ),
    (
        "no IOMMU",
        replace(HEALTHY, iommu_groups=0),
        Row("IOMMU", Level.WARN,
            "there is no active IOMMU: devices can write to the memory of the capture kernel",
            "use mode in-place (its memory was never given to a device), or boot with "
                "intel_iommu=on or amd_iommu=on"),
    ),
    (
        "SME by the command line",
        replace(HEALTHY, cpu_flags=frozenset({"sme"}), cmdline="mem_encrypt=off mem_encrypt=on"),
        Row("memory encryption", Level.FAIL,
            "AMD SME encrypts memory, and the stub would read ciphertext",
            "boot with mem_encrypt=off"),
    ),
    (
        "SME that is not switched on",
        replace(HEALTHY, cpu_flags=frozenset({"sme"})),
        Row("memory encryption", Level.OK, "neither SME nor a confidential guest"),
    ),
    (
        "SME by the kernel's default",
        replace(config(AMD_MEM_ENCRYPT_ACTIVE_BY_DEFAULT="y"), cpu_flags=frozenset({"sme"})),
        Row("memory encryption", Level.FAIL,
            "AMD SME encrypts memory, and the stub would read ciphertext",
            "boot with mem_encrypt=off"),
    ),
    (
        "SME, and nobody says whether it is on",
        replace(HEALTHY, cpu_flags=frozenset({"sme"}), config=NO_FILE),
        Row("memory encryption", Level.UNKNOWN, NO_FILE.why),
    ),
    (
        "a confidential guest",
        replace(HEALTHY, cpu_flags=frozenset({"tdx_guest"})),
        Row("memory encryption", Level.FAIL,
            "the stub cannot run in this Intel TDX guest", BY_FILE),
    ),
    (
        "five levels of page tables",
        replace(HEALTHY, cpu_flags=frozenset({"la57", "pdpe1gb"})),
        Row("page tables", Level.OK, "five levels (la57), 1 GiB pages"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("machine", "expected"), [case[1:] for case in ROWS], ids=[case[0] for case in ROWS]
)
def test_row(machine: Machine, expected: Row) -> None:
    assert row(machine, expected.name) == expected


def test_problems_are_the_failed_rows() -> None:
    machine = replace(HEALTHY, seccomp=True, cpu_flags=frozenset({"tdx_guest"}))
    assert [row.name for row in problems(diagnose(machine))] == ["memory encryption"]


OURS = LoadRecord(
    slot=Slot.CRASH, mode=Mode.IN_PLACE, kernel="/boot/vmlinuz", since=1790000000,
    window=PhysRange(MIB, 2 * MIB), headers=PhysRange(0, 4096),
)  # fmt: skip
NOTED = "crash by normal, mode in-place, since 2026-09-21 14:13:20 UTC (/run/pykexec/loaded.json)"


@pytest.mark.parametrize(
    ("machine", "ours", "expected"),
    [
        (
            kexec(crash_loaded=True),
            OURS,
            Row("crash image", Level.OK, f"loaded by pykexec: {NOTED}",
                "to replace it, run pykexec unload --crash --backend kernel"),
        ),
        (
            kexec(crash_loaded=True),
            replace(OURS, slot=Slot.NORMAL),
            Row("crash image", Level.WARN, "one is loaded already",
                "stop that service first: a crash load frees the old image even if it fails"),
        ),
        (
            kexec(crash_loaded=False),
            OURS,
            Row("crash image", Level.WARN, f"none is loaded, but pykexec had loaded one: {NOTED}",
                "another program has unloaded it; run pykexec unload --crash --backend "
                    "kernel to free its memory"),
        ),
        (
            kexec(crash_loaded=True),
            Unknown("/run/pykexec/loaded.json: permission denied"),
            Row("crash image", Level.WARN,
                "one is loaded already; whether pykexec loaded it is unknown: "
                    "/run/pykexec/loaded.json: permission denied",
                "stop that service first: a crash load frees the old image even if it fails"),
        ),
        (
            kexec(loaded=True),
            replace(OURS, slot=Slot.NORMAL, mode=Mode.KERNEL_SWAP),
            Row("normal image", Level.OK, (
                f"loaded by pykexec: {NOTED}"
            ).replace("in-place", "kernel-swap"),
                "to replace it, run pykexec unload --backend kernel"),
        ),
    ],
    ids=["ours", "ours is the other", "freed by others", "not readable", "the normal slot"],
)  # fmt: skip
def test_whose_image_it_is(machine: Machine, ours: Ours, expected: Row) -> None:
    (found,) = [row for row in diagnose(machine, ours) if row.name == expected.name]
    assert found == expected
