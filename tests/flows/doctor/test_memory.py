"""Rows about memory and the crash region."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pykexec.flows.doctor import Level, Row
from pykexec.machine import (
    Efi,
    ExceptionLevel,
    HugePageUser,
    Machine,
    PcFirmware,
    Unknown,
)
from pykexec.memory.blocks import MemoryBlock, MemoryBlocks
from pykexec.memory.map import MemoryMap, MemoryRange, RangeType
from pykexec.memory.ranges import PhysRange
from tests.flows.doctor.machines import (
    ARM,
    GIB,
    HEALTHY,
    MIB,
    MODULES,
    TREE,
    WITH_MODULE,
    WITHOUT,
    row,
)

ROWS: list[tuple[str, Machine, Row]] = [
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
            "load a capture kernel into a crash region, or use mode in-place"),
    ),
    (
        "the exception level",
        replace(ARM, firmware=replace(TREE, exception_level=ExceptionLevel.EL2_VHE)),
        Row("exception level", Level.OK,
            "the kernel was started at EL2 with VHE, and starts the next one there"),
    ),
    (
        "an exception level that is not known",
        replace(ARM, firmware=replace(TREE, exception_level=Unknown("not permitted"))),
        Row("exception level", Level.UNKNOWN, "not permitted"),
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
]  # fmt: skip


@pytest.mark.parametrize(
    ("machine", "expected"), [case[1:] for case in ROWS], ids=[case[0] for case in ROWS]
)
def test_row(machine: Machine, expected: Row) -> None:
    assert row(machine, expected.name) == expected
