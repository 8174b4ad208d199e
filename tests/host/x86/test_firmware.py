"""What the firmware of a PC passed on: its memory map, EFI, the RSDP."""

from __future__ import annotations

import pytest

from pykexec.host.facts import read_machine
from pykexec.machine import (
    Efi,
    EfiRuntimeRange,
    Unknown,
)
from pykexec.memory.ranges import PhysRange, RangeSet
from tests.host.conftest import (
    EFI_FILES,
    RSDP,
    SECURE_BOOT,
    ZEROS,
    MakeTree,
)


def test_the_firmwares_map_is_read_beside_iomem(tree: MakeTree) -> None:
    """mem= of the running kernel affects one and not the other."""
    cut: dict[str, str | bytes | None] = {
        "/proc/iomem": "00001000-0009fbff : System RAM\n00100000-1fffffff : System RAM\n"
    }
    machine = read_machine(tree(cut))
    assert machine.memory_map_source == "/proc/iomem"
    assert machine.known_map.ram.ranges[-1].end == 0x20000000
    assert not isinstance(machine.pc.memory_map, Unknown)
    assert machine.pc.memory_map.ram.ranges[-1].end > 0x20000000
    assert machine.out_of_reach == RangeSet()


def test_a_firmware_map_of_too_many_entries_is_unknown(tree: MakeTree) -> None:
    names = [f"/sys/firmware/memmap/{number}/type" for number in range(4097)]
    found = read_machine(tree(dict.fromkeys(names, "System RAM"))).pc.memory_map
    assert found == Unknown("/sys/firmware/memmap: more than 4096 entries")


def test_unprivileged_map_is_the_firmwares(tree: MakeTree) -> None:
    machine = read_machine(tree({"/proc/iomem": ZEROS}))
    assert not isinstance(machine.memory_map, Unknown)
    assert machine.memory_map_source == "/sys/firmware/memmap"
    assert machine.memory_map.ram.ranges[0] == PhysRange(0, 0x9FC00)


def test_efi(tree: MakeTree) -> None:
    machine = read_machine(tree({**EFI_FILES, SECURE_BOOT: b"\6\0\0\0\1"}))
    assert machine.pc.efi == Efi(
        systab={"ACPI20": RSDP, "ACPI": 0x7FB7E000, "SMBIOS": 0x7F9AB000},
        fw_vendor=0x7FE1C018,
        runtime=0xFFFFFFFEFFE25B18,
        config_table=0x7FD9ED98,
        runtime_map=tuple(
            EfiRuntimeRange(5, 0x1000 * entry, 0xFFFFFFFE00000000, 3, 0x800000000000000F)
            for entry in (0, 2, 10)
        ),
    )
    assert machine.pc.acpi_rsdp == RSDP
    assert machine.secure_boot is True


def test_half_a_runtime_map_is_none(tree: MakeTree) -> None:
    files = {**EFI_FILES, "/sys/firmware/efi/runtime-map/2/num_pages": None}
    found = read_machine(tree(files)).pc.efi
    assert isinstance(found, Efi)
    assert found.runtime_map == ()


RSDP_ORDER = [
    ("the command line wins", "quiet acpi_rsdp=0x1234 ro\n", 0x5678, 0x1234),
    ("then boot_params", "quiet\n", 0x5678, 0x5678),
    ("then the EFI systab", "quiet\n", 0, RSDP),
    ("a longer key is another key", "xacpi_rsdp=0x1234\n", 0, RSDP),
]


@pytest.mark.parametrize(
    ("cmdline", "params", "rsdp"), [row[1:] for row in RSDP_ORDER], ids=[r[0] for r in RSDP_ORDER]
)
def test_rsdp(tree: MakeTree, cmdline: str, params: int, rsdp: int) -> None:
    page = bytearray(4096)
    page[0x70:0x78] = params.to_bytes(8, "little")
    files: dict[str, str | bytes | None] = {
        **EFI_FILES,
        "/proc/cmdline": cmdline,
        "/sys/kernel/boot_params/data": bytes(page),
    }
    assert read_machine(tree(files)).pc.acpi_rsdp == rsdp


@pytest.mark.parametrize(("value", "found"), [(2, False), (3, True)])
def test_secure_boot_of_boot_params(tree: MakeTree, value: int, found: bool) -> None:
    page = bytearray(4096)
    page[0x1EC] = value
    files: dict[str, str | bytes | None] = {
        **EFI_FILES,
        "/sys/kernel/boot_params/data": bytes(page),
    }
    assert read_machine(tree(files)).secure_boot is found
