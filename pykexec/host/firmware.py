"""Facts about EFI, and the files of boot loader and kdump service."""

from __future__ import annotations

import re
from dataclasses import fields

from pykexec.host.root import Root, number, numbers, text
from pykexec.machine import BootLoader, Efi, EfiRuntimeRange, Unknown

EFI = "/sys/firmware/efi"
RUNTIME_ENTRIES_MAX = 1024
SECURE_BOOT = f"{EFI}/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"

BOOTLOADERS = (
    ("/etc/default/grub.d/kdump-tools.cfg", "update-grub"),
    ("/etc/kernel/cmdline", "kernel-install add-all (or the tool that builds the UKI)"),
    ("/boot/loader/entries", 'grubby --update-kernel=ALL --args="crashkernel=..."'),
    ("/etc/default/grub", "update-grub (or grub2-mkconfig -o /boot/grub2/grub.cfg)"),
    ("/etc/default/u-boot", "u-boot-update"),
    ("/boot/extlinux/extlinux.conf", ""),
    ("/boot/firmware/cmdline.txt", ""),
    ("/etc/default/flash-kernel", "flash-kernel"),
    ("/etc/lilo.conf", "lilo"),
)
"""The first one that exists is the one that the distribution's own tools edit."""

KDUMP_SERVICES = ("/etc/default/kdump-tools", "/etc/kdump.conf", "/etc/sysconfig/kdump")


def efi(root: Root) -> Efi | Unknown | None:
    """None if the kernel did not boot through EFI."""
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
        runtime_map=_runtime_map(root),
    )


def _runtime_map(root: Root) -> tuple[EfiRuntimeRange, ...]:
    """The entries in order; () unless every one can be read: an incomplete map is useless."""
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


def secure_boot_variable(root: Root, found: Efi | Unknown | None) -> bool | Unknown:
    """The EFI variable SecureBoot: a byte after four of attributes."""
    if found is None:
        return False
    variable = root.read(SECURE_BOOT, 4096)
    if isinstance(variable, Unknown):
        return variable
    return variable[4] == 1 if len(variable) == 5 else Unknown(f"{SECURE_BOOT}: not 5 bytes")


def bootloader(root: Root) -> BootLoader | Unknown:
    """Which file to edit for crashkernel=."""
    for path, apply in BOOTLOADERS:
        if root.exists(path):
            return BootLoader(path, apply)
    return Unknown("no known boot loader configuration")


def kdump_service(root: Root) -> str | Unknown | None:
    """The configuration file of the distribution's own kdump."""
    newer = root.exists("/etc/kdump.conf")
    if isinstance(newer, Unknown):
        return newer
    return next((path for path in KDUMP_SERVICES if root.exists(path)), None)
