"""The memory that the next kernel finds by itself, and RAM that was added after the boot: nothing
is placed there, because a kernel that is started there has no memory, and ends without a word."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest

from pykexec.abi.devicetree import DeviceTree, Node, cells
from pykexec.host.arm64.boot_memory import MAP_MAX, boot_memory
from pykexec.host.captured import Captured, open_root
from pykexec.host.facts import read_machine
from pykexec.host.kernel_map import KcoreLoad
from pykexec.machine import DeviceTreeFirmware, Efi, Unknown
from pykexec.memory.map import MemoryMap
from pykexec.memory.ranges import GIB, MIB, PhysRange, RangeSet

VIRT = Path(__file__).parent / "virt.json"
EFI = Efi({}, Unknown(""), Unknown(""), Unknown(""), ())
DIRECT_MAP, MAP_AT, FILE_OFFSET = 0xFFFF000000000000, 0x7000_0000, 0x1000
LOADS = (KcoreLoad(DIRECT_MAP + GIB, GIB, FILE_OFFSET, GIB, True),)
CELLS = (("#address-cells", cells(2, 1)), ("#size-cells", cells(2, 1)))
BANK = cells(GIB, 2) + cells(512 * MIB, 2)
ADDED = PhysRange(0x8000_0000, 0xC000_0000)


def memory(value: bytes, **more: bytes) -> Node:
    others = tuple((name.replace("_", "-"), item) for name, item in more.items())
    return Node("memory@0", (("device_type", b"memory\0"), ("reg", value), *others))


def firmware(*children: Node, efi: Efi | None = None) -> DeviceTreeFirmware:
    return DeviceTreeFirmware(tree=DeviceTree(Node("", CELLS, children)).encode(), efi=efi)


@pytest.mark.parametrize(
    ("nodes", "found"),
    [
        ((memory(BANK),), [(GIB, GIB + 512 * MIB)]),
        ((memory(BANK), memory(cells(4 * GIB, 2) + cells(GIB, 2))),
         [(GIB, GIB + 512 * MIB), (4 * GIB, 5 * GIB)]),
        ((memory(BANK, hotpluggable=b""),), [(GIB, GIB + 512 * MIB)]),
        ((memory(BANK), memory(cells(4 * GIB, 2) * 2, status=b"disabled\0")),
         [(GIB, GIB + 512 * MIB)]),
        ((Node("memory", memory(BANK).changed(
            {"linux,usable-memory": cells(GIB, 2) + cells(MIB, 2)}).properties),),
         [(GIB, GIB + MIB)]),
    ],
    ids=["one", "two", "hotpluggable", "disabled", "usable"],
)  # fmt: skip
def test_the_memory_of_a_device_tree(nodes: tuple[Node, ...], found: list[tuple[int, int]]) -> None:
    root = Captured("a machine", {}, {})
    expected = RangeSet.of(PhysRange(*pair) for pair in found)
    assert boot_memory(root, firmware(*nodes), ()) == expected


def descriptor(kind: int, start: int, pages: int, attribute: int) -> bytes:
    """efi_memory_desc_t (include/linux/efi.h), in the 48 bytes that EDK2 uses."""
    return struct.pack("<IIQQQQQ", kind, 0, start, 0, pages, attribute, 0)


WB, UC, RUNTIME = 0x8, 0x1, 1 << 63
LOADER_DATA, CONVENTIONAL, RUNTIME_DATA, MMIO = 2, 7, 6, 11
EFI_MAP = (
    descriptor(CONVENTIONAL, GIB, 0x10000, WB | 0x7)
    + descriptor(LOADER_DATA, GIB + 256 * MIB, 0x100, WB)
    + descriptor(RUNTIME_DATA, GIB + 257 * MIB, 0x100, WB | RUNTIME)
    + descriptor(MMIO, 0x0900_0000, 1, UC | RUNTIME)
)


def by_efi(raw: bytes, **changed: bytes) -> RangeSet | Unknown:
    """What is read of a machine with this map, and a tree that names other memory."""
    values = {
        "linux,uefi-mmap-start": cells(MAP_AT, 2),
        "linux,uefi-mmap-size": cells(len(raw), 1),
        "linux,uefi-mmap-desc-size": cells(48, 1),
    }
    chosen = Node("chosen").changed(values | changed)
    at = FILE_OFFSET + MAP_AT - GIB
    root = Captured("a machine", {f"/proc/kcore@{at:#x}+{len(raw):#x}": raw}, {})
    return boot_memory(root, firmware(memory(BANK), chosen, efi=EFI), LOADS)


def test_the_memory_map_of_efi() -> None:
    """All that can be cached, whatever its type is; the device tree does not count then."""
    assert by_efi(EFI_MAP) == RangeSet((PhysRange(GIB, GIB + 258 * MIB),))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"linux,uefi-mmap-size": cells(0, 1)}, "has 0 bytes"),
        ({"linux,uefi-mmap-size": cells(MAP_MAX + 1, 1)}, "bytes"),
        ({"linux,uefi-mmap-desc-size": cells(0, 1)}, "names no memory"),
        ({"linux,uefi-mmap-start": cells(1 << 63, 2)}, "does not have"),
    ],
)
def test_a_map_that_cannot_be_read(changed: dict[str, bytes], reason: str) -> None:
    found = by_efi(EFI_MAP, **changed)
    assert isinstance(found, Unknown)
    assert reason in found.why


def test_numbers_out_of_range() -> None:
    absurd = descriptor(CONVENTIONAL, (1 << 64) - 4096, 1 << 63, WB)
    assert by_efi(EFI_MAP + absurd) == by_efi(EFI_MAP)


def with_added_memory(line: str) -> MemoryMap:
    """The map of a captured guest, whose device tree names one GiB, with a line of iomem more."""
    root = open_root(VIRT)
    assert isinstance(root, Captured)
    iomem = root.files["/proc/iomem"]
    assert isinstance(iomem, bytes)
    lines = iomem + line.encode()
    return read_machine(replace(root, files={**root.files, "/proc/iomem": lines})).known_map


def test_ram_that_was_added_is_in_the_dump_alone() -> None:
    """As pc-dimm with ACPI: /proc/iomem shows it like any other."""
    before = with_added_memory("")
    found = with_added_memory(f"{ADDED.start:08x}-{ADDED.last:08x} : System RAM\n")
    assert before.driver_ram == RangeSet()
    assert found.driver_ram == RangeSet((ADDED,))
    assert found.whole_page_ram(4096) == before.whole_page_ram(4096)
    assert found.old_memory(4096) == before.old_memory(4096) | RangeSet((ADDED,))


def test_memory_of_another_machine_changes_nothing() -> None:
    found = with_added_memory("")
    assert found.booted_with(RangeSet((PhysRange(1 << 40, 1 << 41),))) == found
