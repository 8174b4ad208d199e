"""The facts of two captured guests: QEMU's `virt` with a device tree, and with EFI and ACPI."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest

from pykexec.abi.devicetree import DeviceTree, Node, parse_device_tree
from pykexec.host.arm64.firmware import FADT, FDT, device_tree_firmware
from pykexec.host.captured import Captured, open_root
from pykexec.host.facts import read_machine
from pykexec.host.kernel_map import kcore_loads
from pykexec.machine import DeviceTreeFirmware, Efi, ExceptionLevel, Machine, Unknown
from pykexec.memory.ranges import MIB, PhysRange

HERE = Path(__file__).parent
PSCI = frozenset({"psci"})
RAM = PhysRange(0x40000000, 0x80000000)


def captured(name: str) -> Machine:
    return read_machine(open_root(HERE / f"{name}.json"))


def firmware(name: str) -> DeviceTreeFirmware:
    found = captured(name).firmware
    assert isinstance(found, DeviceTreeFirmware)
    return found


@pytest.fixture(scope="module")
def virt() -> Machine:
    return captured("virt")


def test_memory_that_the_kernel_reserved_is_in_a_dump(virt: Machine) -> None:
    found = virt.known_map
    assert found.old_memory(4096).ranges == (RAM,)
    assert found.firmware == ()
    assert found.held.size > 80 * MIB


def test_nothing_is_placed_in_memory_that_the_kernel_reserved(virt: Machine) -> None:
    found = virt.known_map
    free = found.whole_page_ram(4096)
    assert not any(free.overlaps(span) for span in found.held)
    assert free.size == found.ram.inward(4096).size - found.held.inward(4096).size


def test_what_firmware_reserved_is_not_in_a_dump() -> None:
    found = captured("virt-efi").known_map
    assert not found.old_memory(4096).overlaps(PhysRange(0x7C440000, 0x7C730000))
    assert found.held.overlaps(PhysRange(0x6FC00000, 0x765B1000))


def test_the_mappings_of_the_kernel(virt: Machine) -> None:
    """The direct map is the lower half of the kernel's addresses, of which there are 48 bits."""
    assert not isinstance(virt.page_offset_base, Unknown)
    assert 0xFFFF000000000000 <= virt.page_offset_base + RAM.start < 0xFFFF800000000000
    mapping = virt.kernel_mapping
    assert not isinstance(mapping, Unknown)
    assert mapping.vaddr >= 0xFFFF800000000000
    assert RAM.start < mapping.range.start < mapping.range.end < RAM.end
    assert virt.kernel_image
    assert mapping.range.outward(64 << 10).start <= virt.kernel_image.ranges[0].start


def test_the_page_size(virt: Machine) -> None:
    assert virt.page_size == 4096


def test_notes_and_reservation(virt: Machine) -> None:
    assert isinstance(virt.cpus, tuple)
    assert [(cpu.cpu, cpu.size) for cpu in virt.cpus] == [(0, 424), (1, 424)]
    assert not isinstance(virt.crash_kernel, Unknown)
    assert [span.size for span in virt.crash_kernel] == [256 * MIB]
    assert virt.arch is not None
    assert (virt.arch.name, virt.snp_guest, virt.secure_boot) == ("aarch64", False, False)


def test_a_machine_with_a_device_tree() -> None:
    found = firmware("virt")
    assert (found.acpi, found.psci, found.efi) == (False, "hvc", None)
    assert found.cpu_methods == PSCI
    assert found.exception_level is ExceptionLevel.EL1
    assert not isinstance(found.tree, Unknown)
    chosen = parse_device_tree(found.tree).node("/chosen")
    assert chosen
    assert chosen.text("stdout-path") == "/pl011@9000000"


def test_a_machine_with_efi_and_acpi() -> None:
    found = firmware("virt-efi")
    assert (found.acpi, found.psci, found.cpu_methods) == (True, "hvc", PSCI)
    assert found.exception_level is ExceptionLevel.EL1
    assert isinstance(found.efi, Efi)
    assert not isinstance(found.tree, Unknown)
    tree = parse_device_tree(found.tree)
    assert tree.node("/cpus") is None


def root(files: dict[str, bytes]) -> Captured:
    return Captured("a machine", files, {"/sys/firmware": ()})


def of_tree(*children: Node) -> DeviceTreeFirmware:
    return device_tree_firmware(root({FDT: DeviceTree(Node("", (), children)).encode()}))


def cpu(number: int, method: bytes | None) -> Node:
    node = Node(f"cpu@{number}", (("device_type", b"cpu\0"),))
    return node.changed({"enable-method": method}) if method else node


def test_how_processors_are_started() -> None:
    cpus = Node("cpus", (), (cpu(0, b"spin-table\0"), cpu(1, b"psci\0"), Node("idle-states")))
    assert of_tree(cpus).cpu_methods == frozenset({"spin-table", "psci"})
    assert of_tree(Node("cpus", (), (cpu(0, None),))).cpu_methods == frozenset({"none"})
    assert isinstance(of_tree().cpu_methods, Unknown)


@pytest.mark.parametrize(
    ("compatible", "method", "expected"),
    [
        (b"arm,psci-1.0\0arm,psci\0", b"smc\0", "smc"),
        (b"arm,psci\0", b"hvc\0", "hvc"),
        (b"arm,other\0", b"hvc\0", None),
    ],
)
def test_the_call_of_the_firmware(compatible: bytes, method: bytes, expected: str | None) -> None:
    node = Node("psci", (("compatible", compatible), ("method", method)))
    assert of_tree(node).psci == expected


def test_a_method_that_nobody_knows() -> None:
    node = Node("psci", (("compatible", b"arm,psci\0"), ("method", b"svc\0")))
    assert of_tree(node).psci == Unknown(f"{FDT}: /psci has the method 'svc'")


@pytest.mark.parametrize(
    ("flags", "psci", "methods"),
    [(0, None, frozenset({"parking-protocol"})), (1, "smc", PSCI), (3, "hvc", PSCI)],
)
def test_the_flags_of_acpi(flags: int, psci: str | None, methods: frozenset[str]) -> None:
    fadt = bytes(129) + struct.pack("<H", flags) + bytes(100)
    found = device_tree_firmware(root({FADT: fadt, FDT: DeviceTree(Node("")).encode()}))
    assert (found.acpi, found.psci, found.cpu_methods) == (True, psci, methods)


def test_a_damaged_tree_is_unknown() -> None:
    found = device_tree_firmware(root({FDT: bytes(64)}))
    assert found.tree == found.psci
    assert str(found.tree).startswith(f"unknown: {FDT}: not a device tree")


def test_only_the_kernels_image_is_mapped_elsewhere() -> None:
    loads = kcore_loads(open_root(HERE / "virt.json"))
    assert isinstance(loads, tuple)
    direct = [load for load in loads if load.in_direct_map]
    assert sum(load.size for load in direct) == RAM.size
    beside = [load for load in loads if load.paddr is not None and load not in direct]
    assert len(beside) == 1


def test_an_older_kernel_does_not_tell_its_architecture() -> None:
    found = open_root(HERE / "virt.json")
    assert isinstance(found, Captured)
    files = {path: data for path, data in found.files.items() if path != "/proc/sys/kernel/arch"}
    assert read_machine(replace(found, files=files)).architecture == "aarch64"
