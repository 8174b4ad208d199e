"""What kind of program a file with an MZ header is, by its first bytes."""

from __future__ import annotations

import struct

from pykexec.abi.pe import (
    COFF_HEADER_SIZE,
    IMAGE_FILE_MACHINE,
    OPTIONAL_HEADER_MAGICS,
    PE_MAGIC,
    PE_OFFSET_AT,
    SECTION_HEADER_SIZE,
    SUBSYSTEM_AT,
    Subsystem,
)

A_KERNEL = "use a kernel file such as /boot/vmlinuz, or a unified kernel image (UKI)"
EFI_HINT = f"only the firmware can start it; {A_KERNEL}"
MAX_SECTIONS = 96
BOOT_LOADERS = {
    ".sdmagic": "systemd-boot",
    "mods": "GRUB",
    ".vendor_c": "shim",
    ".vendor_cert": "shim",
}
"""A section that only this boot loader has."""
ADDON_SECTIONS = frozenset((".cmdline", ".initrd", ".ucode", ".dtb", ".dtbauto"))
WINDOWS: dict[int, str] = {
    Subsystem.NATIVE: "a Windows driver or kernel",
    Subsystem.WINDOWS_GUI: "a Windows program",
    Subsystem.WINDOWS_CUI: "a Windows program",
    Subsystem.WINDOWS_BOOT: "a Windows boot application",
}
EFI: dict[int, str] = {
    Subsystem.EFI_APPLICATION: "an EFI application",
    Subsystem.EFI_BOOT_DRIVER: "an EFI driver",
    Subsystem.EFI_RUNTIME_DRIVER: "an EFI driver",
    Subsystem.EFI_ROM: "an EFI ROM image",
}


def describe(head: bytes) -> tuple[str, str]:
    """What it is, and what to do if a kernel is wanted."""
    at = _pe_header_at(head)
    if at is None:
        return "a DOS or Windows program (MZ without a PE header)", A_KERNEL
    machine = int.from_bytes(head[at + 4 : at + 6], "little")
    whose = IMAGE_FILE_MACHINE.get(machine, f"COFF machine {machine:#x}")
    names = section_names(head)
    loader = next((name for mark, name in BOOT_LOADERS.items() if mark in names), None)
    kind = _subsystem(head, at)
    if loader:
        return f"an EFI boot loader ({loader}) for {whose}", EFI_HINT
    if ".linux" not in names and ".text" not in names and names & ADDON_SECTIONS:
        what = f"an addon for a unified kernel image for {whose}, without a kernel"
        return what, "use the unified kernel image; its addons are for systemd-stub"
    if kind in WINDOWS:
        return f"{WINDOWS[kind]} for {whose}", A_KERNEL
    if kind in EFI:
        return f"{EFI[kind]} for {whose} without a kernel", EFI_HINT
    return f"an EFI program or another PE file for {whose} without a kernel", EFI_HINT


def _pe_header_at(head: bytes) -> int | None:
    """Offset of the PE header; None if there is none in `head`."""
    at = int.from_bytes(head[PE_OFFSET_AT : PE_OFFSET_AT + 4], "little")
    whole = len(head) >= PE_OFFSET_AT + 4 and at + COFF_HEADER_SIZE <= len(head)
    return at if whole and head.startswith(PE_MAGIC, at) else None


def _subsystem(head: bytes, at: int) -> int:
    """The subsystem in the optional header; 0 (unknown) without one."""
    optional = at + COFF_HEADER_SIZE
    size = int.from_bytes(head[at + 20 : at + 22], "little")
    magic = int.from_bytes(head[optional : optional + 2], "little")
    if size < SUBSYSTEM_AT + 2 or magic not in OPTIONAL_HEADER_MAGICS:
        return 0
    return int.from_bytes(head[optional + SUBSYSTEM_AT : optional + SUBSYSTEM_AT + 2], "little")


def section_names(head: bytes) -> frozenset[str]:
    """From the section headers that are in `head`; empty if it is not a PE file."""
    at = _pe_header_at(head) if head.startswith(b"MZ") else None
    if at is None:
        return frozenset()
    count, optional_size = struct.unpack_from("<H12xH", head, at + 6)
    table = at + COFF_HEADER_SIZE + optional_size
    rows = (table + n * SECTION_HEADER_SIZE for n in range(min(count, MAX_SECTIONS)))
    raw = (head[row : row + 8].rstrip(b"\0") for row in rows if row + 8 <= len(head))
    return frozenset(name.decode("ascii", "replace") for name in raw)
