"""boot_params read back by the offsets in the kernel's header, not by our declaration."""

from __future__ import annotations

import struct

from pykexec.abi.x86.bootparam import SETUP_HEADER_OFFSET, SetupType
from pykexec.memory.map import MemoryMap
from pykexec.memory.ranges import PhysRange
from pykexec.placement.cmdline import command_line
from pykexec.placement.x86.boot_params import BootParams, SetupData, inheritable
from tests.builders import make_bzimage, pc_map, ram

AT = 0x17FFFC000
INITRD = PhysRange(0x17C8FF000, 0x17CC00000)
HEADER = make_bzimage()[SETUP_HEADER_OFFSET:0x26C]


def built(e820: MemoryMap, seed: bytes = b"\x55" * 32) -> bytes:
    node = SetupData(SetupType.SETUP_RNG_SEED, seed)
    params = BootParams(
        HEADER, command_line(["root=/dev/vda1 ro"]), e820, (node,), acpi_rsdp=0xF5A00
    )
    raw = params.encode(AT, INITRD, 0x300001)
    assert len(raw) == params.size
    return raw


def u32(raw: bytes, at: int) -> int:
    return int.from_bytes(raw[at : at + 4], "little")


def u64(raw: bytes, at: int) -> int:
    return int.from_bytes(raw[at : at + 8], "little")


def test_addresses_above_4_gib_have_their_high_halves() -> None:
    raw = built(pc_map())
    assert u32(raw, 0x218) | u32(raw, 0xC0) << 32 == INITRD.start
    assert u32(raw, 0x21C) | u32(raw, 0xC4) << 32 == 0x300001
    line_at = (u32(raw, 0x228) | u32(raw, 0xC8) << 32) - AT
    assert raw[line_at : raw.index(b"\0", line_at)] == b"root=/dev/vda1 ro"


def test_an_initrd_of_more_than_4_gib_has_its_high_half() -> None:
    size = (5 << 30) + 1
    raw = BootParams(HEADER, command_line(), pc_map()).encode(AT, INITRD, size)
    assert u32(raw, 0x21C) | u32(raw, 0xC4) << 32 == size


def test_only_the_header_is_the_images() -> None:
    raw = built(pc_map())
    assert raw[0x1F1] == 1, "setup_sects"
    assert raw[0x1EF] == 0, "sentinel: otherwise the kernel wipes ext_ramdisk_image and more"
    assert raw[0x210] == 0xD0, "type_of_loader: 0 makes the kernel ignore its initrd"
    assert raw[0x202:0x206] == b"HdrS"
    assert u64(raw, 0x070) == 0xF5A00
    assert u64(raw, 0x258) == 0x1000000, "pref_address kept"


def test_e820_and_the_random_seed() -> None:
    raw = built(pc_map())
    count = raw[0x1E8]
    table = [struct.unpack_from("<QQI", raw, 0x2D0 + 20 * i) for i in range(count)]
    assert table[0] == (0, 0x9FC00, 1)
    assert table[1] == (0x9FC00, 0x400, 2)
    assert count == 5
    node = u64(raw, 0x250) - AT
    assert struct.unpack_from("<QII", raw, node) == (0, 9, 32)
    assert raw[node + 16 : node + 48] == b"\x55" * 32


def test_more_than_128_ranges_go_on_in_setup_data() -> None:
    raw = built(MemoryMap.of(ram(*((n << 16, (n << 16) + 0x1000) for n in range(152)))))
    assert raw[0x1E8] == 128
    first = u64(raw, 0x250) - AT
    following, kind, length = struct.unpack_from("<QII", raw, first)
    assert (kind, length) == (1, 24 * 20)
    assert struct.unpack_from("<QQI", raw, first + 16) == (128 << 16, 0x1000, 1)
    assert struct.unpack_from("<QII", raw, following - AT) == (0, 9, 32)


def test_nothing_is_left_of_another_initrd() -> None:
    params = BootParams(HEADER, command_line(), pc_map())
    raw = params.encode(AT, None)
    assert u32(raw, 0x218) == u32(raw, 0x21C) == u64(raw, 0x250) == 0


def test_the_console_and_the_bios_disks_are_inherited() -> None:
    running = bytearray(range(256)) * 16
    running[0x1EF] = 0xFF
    params = BootParams(HEADER, command_line(), pc_map(), running=inheritable(bytes(running)))
    raw = params.encode(AT, None)
    for start, end in (
        (0x000, 0x040),
        (0x1E9, 0x1EB),
        (0x1EC, 0x1ED),
        (0x290, 0x2D0),
        (0xD00, 0xEEC),
    ):
        assert raw[start:end] == running[start:end]
    assert raw[0x1EF] == 0
    assert raw[0x1C0:0x1E0] == bytes(0x20), "EFI is handed over on purpose or not at all"
    assert raw[0x040:0x070] == bytes(0x30)
