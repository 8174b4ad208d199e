"""The exception level of a machine, from the timer that its kernel uses; the lines are those of
guests with Debian's 6.1."""

from __future__ import annotations

import struct

import pytest

from pykexec.abi.devicetree import DeviceTree, Node
from pykexec.host.arm64.exception_level import GTDT, INTERRUPTS, exception_level
from pykexec.host.captured import Captured
from pykexec.machine import ExceptionLevel, Unknown

EL1 = " 11:       2048        902 GIC-0  27 Level     arch_timer\n"
EL2 = " 11:        877        718 GIC-0  30 Level     arch_timer\n"
VHE = " 10:       1203       1067 GICv3  26 Level     arch_timer\n"
LINES = [(EL1, ExceptionLevel.EL1), (EL2, ExceptionLevel.EL2), (VHE, ExceptionLevel.EL2_VHE)]
OTHERS = " 13:          0          0 GIC-0  33 Level     uart-pl011\nIPI0:        13         66\n"


def interrupts(*numbers: int, kind: int = 1) -> bytes:
    """PPIs of the secure, physical, virtual and hypervisor timer."""
    return b"".join(struct.pack(">3I", kind, number, 0x104) for number in numbers)


def tree(value: bytes, **more: bytes) -> DeviceTree:
    compatible = b"arm,armv8-timer\0arm,armv7-timer\0"
    properties = {"compatible": compatible, "interrupts": value, **more}
    return DeviceTree(Node("", (), (Node("timer", tuple(properties.items())),)))


VIRT = tree(interrupts(13, 14, 11, 10))


def root(lines: str, **files: bytes) -> Captured:
    return Captured("a machine", {INTERRUPTS: (OTHERS + lines).encode(), **files}, {})


@pytest.mark.parametrize(("line", "level"), LINES)
def test_with_a_device_tree(line: str, level: ExceptionLevel) -> None:
    assert exception_level(root(line), VIRT, acpi=False) is level


@pytest.mark.parametrize(("line", "level"), LINES)
def test_with_acpi(line: str, level: ExceptionLevel) -> None:
    table = struct.pack("<36s3I6I", b"GTDT", 0, 0, 0, 29, 0, 30, 0, 27, 0) + struct.pack("<I", 26)
    files = {GTDT: table.ljust(104, b"\0")}
    assert exception_level(root(line, **files), Unknown("not used"), acpi=True) is level


def test_interrupts_that_are_named_have_any_order() -> None:
    named = tree(interrupts(11, 10, 14), **{"interrupt-names": b"virt\0hyp-phys\0phys\0"})
    assert exception_level(root(EL1), named, acpi=False) is ExceptionLevel.EL1
    assert exception_level(root(VHE), named, acpi=False) is ExceptionLevel.EL2_VHE


def test_other_numbers_of_the_firmware() -> None:
    """Of a Qualcomm processor, as in arch/arm64/boot/dts/qcom/msm8916.dtsi."""
    lines = " 3:   1   1   GIC-0  19 Level     arch_timer\n"
    other = tree(interrupts(2, 3, 4, 1))
    assert exception_level(root(lines), other, acpi=False) is ExceptionLevel.EL2


UNKNOWN: dict[str, tuple[str, DeviceTree | Unknown]] = {
    "no timer": ("", VIRT),
    "two": (EL1 + EL2, VIRT),
    "another": (EL1.replace(" 27 ", " 40 "), VIRT),
    "no node": (EL1, DeviceTree(Node(""))),
    "no interrupts": (EL1, tree(b"")),
    "not private": (EL1, tree(interrupts(13, 14, 11, 10, kind=0))),
    "truncated": (EL1, tree(interrupts(13, 14, 11, 10)[:-1])),
    "no virtual timer": (EL2, tree(interrupts(13, 14))),
    "the same number twice": (EL1, tree(interrupts(13, 11, 11, 10))),
    "no tree": (EL1, Unknown("no tree")),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_for_certain_is_unknown(name: str) -> None:
    lines, given = UNKNOWN[name]
    found = exception_level(root(lines), given, acpi=False)
    assert isinstance(found, Unknown)
    assert found.why


def test_a_short_table_of_acpi_is_unknown() -> None:
    found = exception_level(root(EL1, **{GTDT: bytes(75)}), VIRT, acpi=True)
    assert found == Unknown(f"{GTDT}: has only 75 bytes")
    assert isinstance(exception_level(root(EL1), VIRT, acpi=True), Unknown)
