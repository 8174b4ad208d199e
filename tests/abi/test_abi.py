"""Checks declarations against the offsets in the kernel's headers, and struct against construct."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.abi import elf
from pykexec.abi.kexec import Ind, KexecFlag, flag_names
from pykexec.abi.x86 import bootparam

U16, U32, U64 = (st.integers(0, (1 << bits) - 1) for bits in (16, 32, 64))


def offset(structure: object, field: str) -> int:
    at = 0
    for item in structure.subcons:  # type: ignore[attr-defined]
        if item.name == field:
            return at
        at += item.sizeof()
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


@given(st.tuples(U32, U32, U64, U64, U64, U64, U64, U64))
def test_program_headers_by_struct_and_by_construct(values: tuple[int, ...]) -> None:
    names = [item.name for item in elf.Elf64_Phdr.subcons]
    assert elf.PHDR.pack(*values) == elf.Elf64_Phdr.build(dict(zip(names, values, strict=True)))


@given(U16, U64, U16)
def test_elf_headers_by_struct_and_by_construct(e_type: int, e_entry: int, e_phnum: int) -> None:
    fields = {
        "e_ident": elf.EI_IDENT, "e_type": e_type, "e_machine": 62, "e_version": 1,
        "e_entry": e_entry, "e_phoff": 64, "e_shoff": 0, "e_flags": 0, "e_ehsize": 64,
        "e_phentsize": 56, "e_phnum": e_phnum, "e_shentsize": 0, "e_shnum": 0, "e_shstrndx": 0,
    }  # fmt: skip
    assert elf.EHDR.pack(*fields.values()) == elf.Elf64_Ehdr.build(fields)


@given(U32, U32, U32)
def test_note_headers_by_struct_and_by_construct(namesz: int, descsz: int, kind: int) -> None:
    fields = {"n_namesz": namesz, "n_descsz": descsz, "n_type": kind}
    assert elf.NHDR.pack(namesz, descsz, kind) == elf.Elf64_Nhdr.build(fields)


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
