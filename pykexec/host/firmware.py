"""What firmware and boot loader handed to the running kernel: boot_params, EFI, ACPI."""

from __future__ import annotations

import re
from dataclasses import fields

from pykexec.abi.x86.bootparam import BootParamsField
from pykexec.host.root import Root, number, numbers, text
from pykexec.machine import BootLoader, Efi, EfiRuntimeRange, Unknown

BOOT_PARAMS = "/sys/kernel/boot_params/data"
BOOT_PARAMS_SIZE = 4096
SECURE_BOOT_OFFSET = 0x1EC
"""boot_params.secure_boot: 0 unset, 1 unknown, 2 disabled, 3 enabled."""
EFI = "/sys/firmware/efi"
SECURE_BOOT = f"{EFI}/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
RUNTIME_ENTRIES_MAX = 1024

BOOTLOADERS = (
    ("/etc/default/grub.d/kdump-tools.cfg", "update-grub"),
    ("/etc/kernel/cmdline", "kernel-install add-all (or the tool that builds the UKI)"),
    ("/boot/loader/entries", 'grubby --update-kernel=ALL --args="crashkernel=..."'),
    ("/etc/default/grub", "update-grub (or grub2-mkconfig -o /boot/grub2/grub.cfg)"),
    ("/boot/extlinux/extlinux.conf", "nothing more, because it is read at the next boot"),
    ("/boot/firmware/cmdline.txt", "nothing more, because it is read at the next boot"),
    ("/etc/lilo.conf", "lilo"),
)
"""The first that exists is the one that a distribution's own tools edit."""

KDUMP_SERVICES = ("/etc/default/kdump-tools", "/etc/kdump.conf", "/etc/sysconfig/kdump")


def boot_params(root: Root) -> bytes | Unknown:
    """struct boot_params as the running kernel got it, 4096 bytes."""
    found = root.read(BOOT_PARAMS, 1 << 16)
    if isinstance(found, bytes) and len(found) != BOOT_PARAMS_SIZE:
        return Unknown(f"{BOOT_PARAMS}: {len(found)} bytes, not {BOOT_PARAMS_SIZE}")
    return found


def efi(root: Root) -> Efi | Unknown | None:
    """None where the kernel did not boot through EFI."""
    names = root.entries(EFI)
    if isinstance(names, Unknown):
        return names if isinstance(root.entries("/sys/firmware"), Unknown) else None
    table: dict[str, int] = {}
    systab = text(root, f"{EFI}/systab")
    if isinstance(systab, str):
        for match in re.finditer(r"^(\w+)=(0x[0-9a-fA-F]{1,16})$", systab, re.MULTILINE):
            table.setdefault(match[1], int(match[2], 16))
    return Efi(
        systab=table,
        fw_vendor=number(root, f"{EFI}/fw_vendor", 16),
        runtime=number(root, f"{EFI}/runtime", 16),
        config_table=number(root, f"{EFI}/config_table", 16),
        runtime_map=runtime_map(root),
    )


def runtime_map(root: Root) -> tuple[EfiRuntimeRange, ...]:
    """The entries in their order; () unless every one can be read: half a map is none."""
    names = root.entries(f"{EFI}/runtime-map")
    if isinstance(names, Unknown):
        return ()
    found: list[EfiRuntimeRange] = []
    entries = sorted(int(name) for name in names if name.isdecimal() and len(name) < 6)
    for entry in entries[:RUNTIME_ENTRIES_MAX]:
        files = (f"{EFI}/runtime-map/{entry}/{field.name}" for field in fields(EfiRuntimeRange))
        values = numbers(root, files, 16)
        if isinstance(values, Unknown):
            return ()
        found.append(EfiRuntimeRange(*values))
    return tuple(found)


def acpi_rsdp(
    params: bytes | Unknown, found_efi: Efi | Unknown | None, cmdline: str | Unknown
) -> int | Unknown:
    """Physical address of the RSDP, looked for in the order of
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


def secure_boot(
    root: Root, params: bytes | Unknown, found_efi: Efi | Unknown | None
) -> bool | Unknown:
    """The SecureBoot variable, or what the boot stub made of it."""
    if found_efi is None:
        return False
    variable = root.read(SECURE_BOOT, 4096)
    if isinstance(variable, bytes) and len(variable) == 5:
        return variable[4] == 1
    if isinstance(params, bytes) and params[SECURE_BOOT_OFFSET] in (2, 3):
        return params[SECURE_BOOT_OFFSET] == 3
    why = variable.why if isinstance(variable, Unknown) else f"{SECURE_BOOT}: not 5 bytes"
    return Unknown(why)


def bootloader(root: Root) -> BootLoader | Unknown:
    """Which file to edit for crashkernel=."""
    for path, apply in BOOTLOADERS:
        if root.exists(path):
            return BootLoader(path, apply)
    return Unknown("no known boot loader configuration")


def kdump_service(root: Root) -> str | Unknown | None:
    """The distribution's own kdump, by its configuration file."""
    newer = root.exists("/etc/kdump.conf")
    if isinstance(newer, Unknown):
        return newer
    return next((path for path in KDUMP_SERVICES if root.exists(path)), None)
