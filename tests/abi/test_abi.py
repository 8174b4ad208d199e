"""Checks declarations against the offsets in the kernel's headers."""

from __future__ import annotations

import pytest

from pykexec.abi import elf
from pykexec.abi.kexec import Ind, KexecFlag, flag_names
from pykexec.abi.record import Struct
from pykexec.abi.x86 import bootparam


def offset(structure: Struct, field: str) -> int:
    at = 0
    for item in structure.fields:
        if item.name == field:
            return at
        at += item.kind.size
    raise LookupError(field)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("setup_sects", 0x1F1),
        ("boot_flag", 0x1FE),
        ("jump", 0x200),
        ("header", 0x202),
        ("version", 0x206),
        ("kernel_version", 0x20E),
        ("type_of_loader", 0x210),
        ("loadflags", 0x211),
        ("ramdisk_image", 0x218),
        ("cmd_line_ptr", 0x228),
        ("initrd_addr_max", 0x22C),
        ("kernel_alignment", 0x230),
        ("xloadflags", 0x236),
        ("cmdline_size", 0x238),
        ("payload_offset", 0x248),
        ("setup_data", 0x250),
        ("pref_address", 0x258),
        ("init_size", 0x260),
        ("handover_offset", 0x264),
    ],
)
def test_setup_header_offsets(field: str, expected: int) -> None:
    assert bootparam.SETUP_HEADER_OFFSET + offset(bootparam.setup_header, field) == expected


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("acpi_rsdp_addr", bootparam.BootParamsField.ACPI_RSDP_ADDR),
        ("ext_ramdisk_image", bootparam.BootParamsField.EXT_RAMDISK_IMAGE),
        ("ext_ramdisk_size", bootparam.BootParamsField.EXT_RAMDISK_SIZE),
        ("ext_cmd_line_ptr", bootparam.BootParamsField.EXT_CMD_LINE_PTR),
        ("efi_info", bootparam.BootParamsField.EFI_INFO),
        ("alt_mem_k", bootparam.BootParamsField.ALT_MEM_K),
        ("e820_entries", bootparam.BootParamsField.E820_ENTRIES),
        ("sentinel", bootparam.BootParamsField.SENTINEL),
        ("hdr", bootparam.BootParamsField.HDR),
        ("e820_table", bootparam.BootParamsField.E820_TABLE),
        ("eddbuf", bootparam.BootParamsField.EDDBUF),
    ],
)
def test_boot_params_offsets(field: str, expected: int) -> None:
    assert offset(bootparam.boot_params, field) == expected


def test_sizes() -> None:
    assert bootparam.boot_params.sizeof() == bootparam.BOOT_PARAMS_SIZE
    assert bootparam.e820_entry.sizeof() == 20
    assert bootparam.setup_data.sizeof() == 16
    assert elf.elf_prstatus.sizeof() == elf.ELF_PRSTATUS_SIZE
    assert offset(elf.elf_prstatus, "pr_pid") == elf.PR_PID_OFFSET
    assert offset(elf.elf_prstatus, "pr_reg") == elf.PR_REG_OFFSET


def test_constants_print_as_the_kernel_spells_them() -> None:
    flags = KexecFlag.KEXEC_ON_CRASH | KexecFlag.KEXEC_UPDATE_ELFCOREHDR
    assert flag_names(flags | 62 << 16) == [
        "KEXEC_ON_CRASH",
        "KEXEC_UPDATE_ELFCOREHDR",
        "KEXEC_ARCH_X86_64",
    ]
    assert flag_names(3 << 16) == ["KEXEC_ARCH_386"]
    assert flag_names(0x8000) == ["KEXEC_CRASH_BY_NORMAL"]
    assert [int(flag) for flag in Ind] == [1, 2, 4, 8]
