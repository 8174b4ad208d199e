"""What a second kernel on an EFI machine is passed, by the offsets in the kernel's headers."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest

from pykexec.abi.x86.bootparam import SETUP_HEADER_OFFSET, SetupType, Xlf
from pykexec.machine import Efi, EfiRuntimeRange, Machine, PcFirmware, Unknown
from pykexec.placement.cmdline import command_line
from pykexec.placement.x86.boot_params import BootParams, SetupData
from pykexec.placement.x86.efi import efi_handover
from tests.builders import make_bzimage, make_machine, pc_map

AT = 0x17FFFC000
EFI_INFO = struct.pack("<4sIIIIIII", b"EL64", 0x3FBEE018, 48, 1, 0xAAAA, 0xBBBB, 0, 0xCC)
RUNNING = bytes(0x1C0) + EFI_INFO + bytes(4096 - 0x1E0)
RUNTIME = (
    EfiRuntimeRange(5, 0x3F8ED000, 0xFFFFFFFEFFE00000, 256, 0x800000000000000F),
    EfiRuntimeRange(6, 0x3F9ED000, 0xFFFFFFFEFFD00000, 16, 0x800000000000000F),
)
SERVICES = Efi({"SMBIOS": 0x3FBCC000}, 0x3FBEDE98, 0x3FBEEB98, 0xFFFFFFFEFFDEE018, RUNTIME)
MACHINE = replace(make_machine(), firmware=PcFirmware(efi=SERVICES, boot_params=RUNNING))
HEADER = make_bzimage()[SETUP_HEADER_OFFSET:0x26C]


def built(machine: Machine) -> bytes:
    seed = SetupData(SetupType.SETUP_RNG_SEED, bytes(32))
    params = BootParams(
        HEADER,
        command_line(["ro"]),
        pc_map(),
        (seed,),
        efi=efi_handover(machine, Xlf.XLF_EFI_KEXEC),
    )
    raw = params.encode(AT, None)
    assert len(raw) == params.size
    return raw


def test_the_services_are_handed_over() -> None:
    raw = built(MACHINE)
    signature, systab, size, version, low, length, systab_hi, high = struct.unpack_from(
        "<4sIIIIIII", raw, 0x1C0
    )
    assert (signature, systab, size, version, systab_hi) == (b"EL64", 0x3FBEE018, 48, 1, 0)
    assert length == 2 * 48
    memmap = (low | high << 32) - AT
    first = struct.unpack_from("<IIQQQQ", raw, memmap)
    assert first == (5, 0, 0x3F8ED000, 0xFFFFFFFEFFE00000, 256, 0x800000000000000F)
    assert struct.unpack_from("<I", raw, memmap + 48) == (6,)


def test_the_tables_are_in_a_node_of_their_own() -> None:
    raw = built(MACHINE)
    at = int.from_bytes(raw[0x250:0x258], "little")
    kinds = {}
    while at:
        at_next, kind, length = struct.unpack_from("<QII", raw, at - AT)
        kinds[kind] = raw[at - AT + 16 : at - AT + 16 + length]
        at = at_next
    assert set(kinds) == {4, 9}
    assert len(kinds[4]) == 96
    assert struct.unpack_from("<QQQQ", kinds[4]) == (
        0x3FBEDE98,
        0,
        0xFFFFFFFEFFDEE018,
        0x3FBCC000,
    )


@pytest.mark.parametrize(
    "change",
    [
        {"efi": None},
        {"efi": Unknown("not readable")},
        {"efi": replace(SERVICES, runtime_map=())},
        {"efi": replace(SERVICES, fw_vendor=Unknown("not readable"))},
        {"boot_params": Unknown("not readable")},
        {"boot_params": bytes(4096)},
        {"boot_params": RUNNING.replace(b"EL64", b"EL32")},
    ],
)
def test_without_every_fact_there_is_no_handover(change: dict[str, Any]) -> None:
    raw = built(replace(MACHINE, firmware=replace(MACHINE.firmware, **change)))
    assert raw[0x1C0:0x1E0] == bytes(0x20)


def test_an_image_that_cannot_take_over_is_not_asked_to() -> None:
    assert efi_handover(MACHINE, int(Xlf.XLF_KERNEL_64)) is None
