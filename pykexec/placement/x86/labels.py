"""Labels for what only images on x86 get."""

from __future__ import annotations

BOOT_PARAMS = "boot_params, command line"
SETUP_CODE = "real-mode setup code, command line"
BOOT_NOTES = "ELF boot notes, command line"
MULTIBOOT_INFO = "multiboot information"
KERNEL_32 = "32-bit kernel"
