"""The labels of things in a plan, as people read them."""

from __future__ import annotations

from pykexec.placement.role import Role
from pykexec.placement.x86.labels import (
    BOOT_NOTES,
    BOOT_PARAMS,
    KERNEL_32,
    MULTIBOOT_INFO,
    SETUP_CODE,
)

PURGATORY, KERNEL, INITRD = Role.PURGATORY, Role.KERNEL, Role.INITRD
ELFCOREHDR, BACKUP = Role.ELFCOREHDR, Role.BACKUP
CAPTURE_MEMORY, LOW, MODULE = Role.CAPTURE_MEMORY, Role.LOW_MEMORY, Role.MODULE

__all__ = [
    "BACKUP",
    "BOOT_NOTES",
    "BOOT_PARAMS",
    "CAPTURE_MEMORY",
    "ELFCOREHDR",
    "INITRD",
    "KERNEL",
    "KERNEL_32",
    "LOW",
    "MODULE",
    "MULTIBOOT_INFO",
    "PURGATORY",
    "SETUP_CODE",
]
