"""The headers of a PE file: Microsoft's "PE Format", as built by the EFI stubs of Linux and
systemd-stub; and drivers/firmware/efi/libstub/zboot-header.S."""

from __future__ import annotations

from enum import IntEnum

from pykexec.abi.record import Bytes, Int16ul, Int32ul, Struct

MZ_MAGIC = b"MZ"
PE_MAGIC = b"PE\0\0"
PE_OFFSET_AT = 0x3C
"""Offset of the field with the offset of the PE header."""

IMAGE_FILE_MACHINE = {
    0x14C: "i386",
    0x1C2: "arm",
    0xAA64: "arm64",
    0x5064: "riscv64",
    0x6264: "loongarch64",
    0x8664: "x86_64",
}
"""COFF machine: the name that uname -m prints."""

coff_header = Struct(
    "magic" / Bytes(4),
    "machine" / Int16ul,
    "number_of_sections" / Int16ul,
    "time_date_stamp" / Int32ul,
    "pointer_to_symbol_table" / Int32ul,
    "number_of_symbols" / Int32ul,
    "size_of_optional_header" / Int16ul,
    "characteristics" / Int16ul,
)

section_header = Struct(
    "name" / Bytes(8),
    "virtual_size" / Int32ul,
    "virtual_address" / Int32ul,
    "size_of_raw_data" / Int32ul,
    "pointer_to_raw_data" / Int32ul,
    "pointer_to_relocations" / Int32ul,
    "pointer_to_linenumbers" / Int32ul,
    "number_of_relocations" / Int16ul,
    "number_of_linenumbers" / Int16ul,
    "characteristics" / Int32ul,
)

COFF_HEADER_SIZE: int = coff_header.sizeof()
SECTION_HEADER_SIZE: int = section_header.sizeof()
OPTIONAL_HEADER_MAGICS = (0x10B, 0x20B)
"""PE32 and PE32+."""
SUBSYSTEM_AT = 68
"""Offset in the optional header, of either size."""


class Subsystem(IntEnum):
    """IMAGE_SUBSYSTEM_*: what the program runs on."""

    UNKNOWN = 0
    NATIVE = 1
    WINDOWS_GUI = 2
    WINDOWS_CUI = 3
    EFI_APPLICATION = 10
    EFI_BOOT_DRIVER = 11
    EFI_RUNTIME_DRIVER = 12
    EFI_ROM = 13
    WINDOWS_BOOT = 16


ZBOOT_MAGIC = b"zimg"

zboot_header = Struct(
    "mz_magic" / Bytes(4),
    "zimg" / Bytes(4),
    "payload_offset" / Int32ul,
    "payload_size" / Int32ul,
    "_reserved" / Bytes(8),
    "comp_type" / Bytes(32),
    "linux_magic" / Int32ul,
    "pe_header_offset" / Int32ul,
)
"""The first 64 bytes; comp_type is the compressor's name, terminated by a NUL."""
