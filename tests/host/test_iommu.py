"""IOMMUs and the memory that they use, from /sys, ACPI tables and the kernel's own tables."""

from __future__ import annotations

import struct

import pytest

from pykexec.host.captured import capture
from pykexec.host.facts import read_machine
from pykexec.host.root import Folder
from pykexec.machine import Iommus, Unknown
from pykexec.memory.ranges import PhysRange, RangeSet

from .conftest import DIRECT_MAP, MakeTree, kcore_headers

DMAR, IVRS = "/sys/firmware/acpi/tables/DMAR", "/sys/firmware/acpi/tables/IVRS"
REGSET = "/sys/kernel/debug/iommu/intel/iommu_regset"
UNIT = {"/sys/class/iommu/dmar0/intel-iommu/address": "fed90000\n"}


def dmar(*blocks: bytes) -> bytes:
    body = b"".join(blocks)
    head = struct.pack("<4sI", b"DMAR", 48 + len(body))
    return head.ljust(48, b"\0") + body


def rmrr(first: int, last: int) -> bytes:
    return struct.pack("<HHHHQQ", 1, 32, 0, 0, first, last) + bytes(8)


DRHD = struct.pack("<HHBBHQ", 0, 16, 1, 0, 0, 0xFED90000)
IVHD = struct.pack("<BBH", 0x11, 0, 40) + bytes(36)


def ivmd(kind: int, start: int, size: int) -> bytes:
    return struct.pack("<BBHHH8xQQ", kind, 0, 32, 0, 0, start, size)


def found(root: Folder) -> Iommus:
    machine = read_machine(root)
    assert not isinstance(machine.iommus, Unknown)
    assert read_machine(capture(root)).iommus == machine.iommus
    return machine.iommus


def test_no_iommu(tree: MakeTree) -> None:
    none = found(tree({"/sys/class/net/lo/mtu": "65536\n"}))
    assert none.names == ()
    assert not none.memory


def test_a_root_without_sys_class_proves_nothing(tree: MakeTree) -> None:
    assert isinstance(read_machine(tree({})).iommus, Unknown)


def test_hidden_registers(tree: MakeTree) -> None:
    seen = found(tree(dict(UNIT)))
    assert (seen.names, seen.tables) == (("dmar0",), RangeSet())
    assert seen.why_unknown == f"{REGSET}: no such file or directory"


@pytest.mark.parametrize(
    ("path", "table", "expected"),
    [
        (DMAR, dmar(DRHD, rmrr(0x3E2E0000, 0x3E2FFFFF)), [(0x3E2E0000, 0x3E300000)]),
        (DMAR, dmar(rmrr(0x1800, 0x1FFF), DRHD, rmrr(0x5000, 0x5000)),
         [(0x1000, 0x2000), (0x5000, 0x6000)]),
        (DMAR, dmar(rmrr(0x6000, 0x5000)), []),
        (DMAR, dmar(rmrr(0x5000, 0x5FFF)[:20]), []),
        (DMAR, dmar(struct.pack("<HH", 1, 0)), []),
        (DMAR, b"DMAR", []),
        (IVRS, dmar(IVHD, ivmd(0x21, 0x7000, 0x2000)), [(0x7000, 0x9000)]),
        (IVRS, dmar(ivmd(0x20, 0x7000, 0), ivmd(0x22, 0xA000, 1)), [(0xA000, 0xB000)]),
        (IVRS, dmar(ivmd(0x21, (1 << 64) - 0x1000, 0x2000)), []),
    ],
)  # fmt: skip
def test_ranges_of_the_firmware(
    tree: MakeTree, path: str, table: bytes, expected: list[tuple[int, int]]
) -> None:
    seen = found(tree({**UNIT, path: table}))
    assert seen.reserved == RangeSet.of(PhysRange(*pair) for pair in expected)
    assert seen.memory == seen.reserved


def regset(**registers: int) -> str:
    """As written by drivers/iommu/intel/debugfs.c:iommu_regset_show."""
    offsets = {"VER": 0x0, "RTADDR": 0x20, "IQA": 0x90, "IRTA": 0xB8}
    rows = "".join(
        f"{name:<16}\t0x{offsets[name]:02x}\t\t0x{value:016x}\n"
        for name, value in registers.items()
    )
    head = "Name\t\t\tOffset\t\tContents\n"
    return f"IOMMU: dmar0 Register Base Address: fed90000\n{head}{rows}\n"


ROOT_AT, CONTEXT = 0x200000, (0x300000, 0x304000)


def kcore_with_root(*words: int) -> bytes:
    """The first 4 MiB of RAM, with a root table."""
    memory = bytearray(0x400000)
    struct.pack_into(f"<{len(words)}Q", memory, ROOT_AT, *words)
    return kcore_headers((DIRECT_MAP, 0, len(memory))).ljust(0x1000, b"\0") + memory


def test_root_context_and_interrupt_tables(tree: MakeTree) -> None:
    text = regset(VER=0x10, RTADDR=ROOT_AT, IQA=0x500001, IRTA=0x60000F)
    kcore = kcore_with_root(CONTEXT[0] | 1, 0, 0x999000, 0, CONTEXT[1] | 1, 0)
    seen = found(tree({**UNIT, REGSET: text, "/proc/kcore": kcore}))
    assert seen.why_unknown is None
    assert seen.tables == RangeSet.of(
        [
            PhysRange.sized(ROOT_AT, 0x1000),
            *(PhysRange.sized(at, 0x1000) for at in CONTEXT),
            PhysRange.sized(0x500000, 0x2000),
            PhysRange.sized(0x600000, 16 << 16),
        ]
    )


def test_scalable_mode_has_two_context_tables_a_bus(tree: MakeTree) -> None:
    kcore = kcore_with_root(CONTEXT[0] | 1, CONTEXT[1] | 1)
    text = regset(RTADDR=ROOT_AT | 0x400)
    seen = found(tree({**UNIT, REGSET: text, "/proc/kcore": kcore}))
    assert seen.tables.size == 3 * 0x1000


@pytest.mark.parametrize(
    ("text", "kcore"),
    [
        (regset(VER=0x10), kcore_with_root()),
        (regset(RTADDR=0), kcore_with_root()),
        (regset(RTADDR=0xFF000000), kcore_with_root()),
        (regset(RTADDR=ROOT_AT), b""),
        ("RTADDR 0x20 many\n", kcore_with_root()),
    ],
)
def test_half_of_the_tables_is_none(tree: MakeTree, text: str, kcore: bytes) -> None:
    seen = found(tree({**UNIT, REGSET: text, "/proc/kcore": kcore}))
    assert not seen.tables
    assert seen.why_unknown
