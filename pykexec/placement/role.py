"""What a thing of a plan is for. Code asks for the role; people read the label."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """The value is the label in messages and documents, unless a planner gives a more precise
    one: boot information has other names on x86."""

    PURGATORY = "purgatory"
    BOOT_INFORMATION = "boot information"
    KERNEL = "kernel"
    PART = "part of the image"
    """Of an image that is not unpacked by itself; it lies where it is linked."""
    MODULE = "module"
    INITRD = "initrd"
    ELFCOREHDR = "ELF core headers"
    BACKUP = "backup of memory below 1 MiB"
    CAPTURE_MEMORY = "memory of the capture kernel"
    LOW_MEMORY = "memory below 1 MiB"
