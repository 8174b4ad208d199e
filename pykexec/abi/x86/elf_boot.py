"""ELF boot notes, which a loader passes to an ELF image other than a Linux kernel: the ELF boot
proposal (draft-biederman), include/boot/elf_boot.h of etherboot and kexec-tools."""

from __future__ import annotations

from enum import IntEnum

from pykexec.abi.record import Int16ul, Int32ul, Struct

ELF_BOOT_MAGIC = 0x0E1FB007

Elf_Bhdr = Struct(
    "b_signature" / Int32ul,
    "b_size" / Int32ul,
    "b_checksum" / Int16ul,
    "b_records" / Int16ul,
)
"""Precedes the notes; the checksum is an Internet checksum over everything."""


class BootNote(IntEnum):
    """n_type; the notes have no name."""

    EBN_BOOTLOADER_NAME = 2
    EBN_BOOTLOADER_VERSION = 3
    EBN_COMMAND_LINE = 4
