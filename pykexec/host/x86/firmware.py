"""What the firmware of a PC and its boot loader passed to the running kernel."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pykexec.abi.x86.bootparam import BootParamsField
from pykexec.host.firmware import efi, secure_boot_variable
from pykexec.host.x86.rsdp import rsdp_table
from pykexec.machine import Efi, PcFirmware, Unknown

if TYPE_CHECKING:
    from pykexec.host.root import Root
    from pykexec.memory.map import MemoryMap

BOOT_PARAMS = "/sys/kernel/boot_params/data"
BOOT_PARAMS_SIZE = 4096
SECURE_BOOT_OFFSET = 0x1EC
"""boot_params.secure_boot: 0 unset, 1 unknown, 2 disabled, 3 enabled."""


def pc_firmware(
    root: Root,
    memory_map: MemoryMap | Unknown,
    cmdline: str | Unknown,
    lockdown: str | Unknown,
) -> PcFirmware:
    """`memory_map` is that of the firmware, `lockdown` decides whether /dev/mem is read."""
    params, found_efi = boot_params(root), efi(root)
    rsdp = acpi_rsdp(params, found_efi, cmdline)
    return PcFirmware(
        boot_params=params,
        memory_map=memory_map,
        acpi_rsdp=rsdp,
        acpi_rsdp_table=rsdp_table(root, rsdp, lockdown),
        efi=found_efi,
    )


def boot_params(root: Root) -> bytes | Unknown:
    """struct boot_params as passed to the running kernel, 4096 bytes."""
    found = root.read(BOOT_PARAMS, 1 << 16)
    if isinstance(found, bytes) and len(found) != BOOT_PARAMS_SIZE:
        return Unknown(f"{BOOT_PARAMS}: {len(found)} bytes, not {BOOT_PARAMS_SIZE}")
    return found


def acpi_rsdp(
    params: bytes | Unknown, found_efi: Efi | Unknown | None, cmdline: str | Unknown
) -> int | Unknown:
    """Physical address of the RSDP, searched in the order of
    drivers/acpi/osl.c:acpi_os_get_root_pointer."""
    if isinstance(cmdline, str):
        for match in re.finditer(r"(?:^|\s)acpi_rsdp=(?:0x)?([0-9a-fA-F]{1,16})(?=\s|$)", cmdline):
            return int(match[1], 16)
    if isinstance(params, bytes):
        at = BootParamsField.ACPI_RSDP_ADDR
        if addr := int.from_bytes(params[at : at + 8], "little"):
            return addr
    if isinstance(found_efi, Efi):
        for name in ("ACPI20", "ACPI"):
            if addr := found_efi.systab.get(name, 0):
                return addr
    return Unknown(
        "not in the command line, boot_params or the EFI systab (on a BIOS machine, each "
        "kernel finds it below 1 MiB)"
    )


def secure_boot(root: Root, firmware: PcFirmware) -> bool | Unknown:
    """The SecureBoot variable, or the boot stub's interpretation of it."""
    params, found = firmware.boot_params, secure_boot_variable(root, firmware.efi)
    if isinstance(found, bool):
        return found
    if isinstance(params, bytes) and params[SECURE_BOOT_OFFSET] in (2, 3):
        return params[SECURE_BOOT_OFFSET] == 3
    return found
