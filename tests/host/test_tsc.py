"""The frequency of the TSC: as the kernel has calibrated it, where the kernel trusts it."""

from __future__ import annotations

import struct

import pytest

from pykexec.host.facts import read_machine
from pykexec.host.tsc import CLOCKS
from pykexec.machine import Unknown

from .conftest import FILES, KALLSYMS, TSC_KHZ, TSC_KHZ_AT, MakeTree


def test_it_is_the_kernels(tree: MakeTree) -> None:
    assert read_machine(tree({})).tsc_khz == TSC_KHZ


def kcore(khz: int) -> bytes:
    found = FILES["/proc/kcore"]
    assert isinstance(found, bytes)
    return found[:TSC_KHZ_AT] + struct.pack("<I", khz)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({CLOCKS: "hpet acpi_pm \n"}, "the kernel does not use it as a clock"),
        ({CLOCKS: "tsc-early hpet\n"}, "the kernel does not use it as a clock"),
        ({CLOCKS: None}, "no such file or directory"),
        (
            {"/proc/kallsyms": KALLSYMS.replace("tsc_khz", "tsc_kh")},
            "/proc/kallsyms: does not show the address of tsc_khz",
        ),
        (
            {"/proc/kallsyms": KALLSYMS.replace("ffffffff81000900", "0000000000000000")},
            "/proc/kallsyms: does not show the address of tsc_khz",
        ),
        ({"/proc/kcore": kcore(0)}, "tsc_khz is 0"),
        ({"/proc/kcore": kcore(0xFFFF_FFFF)}, "tsc_khz is 4294967295"),
        ({"/proc/kcore": None}, "/proc/kcore: no such file or directory"),
    ],
)
def test_what_is_not_trusted_is_unknown(
    tree: MakeTree, changes: dict[str, str | bytes | None], why: str
) -> None:
    found = read_machine(tree(changes)).tsc_khz
    assert isinstance(found, Unknown)
    assert why in found.why
