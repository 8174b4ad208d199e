"""include/uapi/linux/kexec.h and include/linux/kexec.h."""

from __future__ import annotations

from enum import IntFlag

KEXEC_SEGMENT_MAX = 16

KEXEC_ARCH_MASK = 0xFFFF0000
KEXEC_ARCH_386 = 3 << 16
KEXEC_ARCH_X86_64 = 62 << 16
KEXEC_ARCH_AARCH64 = 183 << 16
"""The ELF machine in the upper half of the flags."""
ARCH_NAMES = {
    KEXEC_ARCH_386: "KEXEC_ARCH_386",
    KEXEC_ARCH_X86_64: "KEXEC_ARCH_X86_64",
    KEXEC_ARCH_AARCH64: "KEXEC_ARCH_AARCH64",
}

LINUX_REBOOT_MAGIC1 = 0xFEE1DEAD
LINUX_REBOOT_MAGIC2 = 672274793
LINUX_REBOOT_CMD_KEXEC = 0x45584543


class KexecFlag(IntFlag):
    """Flags of kexec_load(2), low 16 bits."""

    KEXEC_ON_CRASH = 0x1
    KEXEC_PRESERVE_CONTEXT = 0x2
    KEXEC_UPDATE_ELFCOREHDR = 0x4
    KEXEC_CRASH_HOTPLUG_SUPPORT = 0x8
    KEXEC_CRASH_BY_NORMAL = 0x8000
    """From the 2007 proposal; no stock kernel supports it, and none must be passed it."""


class KexecFileFlag(IntFlag):
    """Flags of kexec_file_load(2)."""

    KEXEC_FILE_UNLOAD = 0x1
    KEXEC_FILE_ON_CRASH = 0x2
    KEXEC_FILE_NO_INITRAMFS = 0x4
    KEXEC_FILE_DEBUG = 0x8
    KEXEC_FILE_NO_CMA = 0x10
    KEXEC_FILE_FORCE_DTB = 0x20


class Ind(IntFlag):
    """What an entry of a page list (kimage_entry_t) is: address | flag."""

    IND_DESTINATION = 0x1
    IND_INDIRECTION = 0x2
    IND_DONE = 0x4
    IND_SOURCE = 0x8


SEGMENT_SIZE = 32
"""struct kexec_segment of a 64-bit kernel: buf, bufsz, mem, memsz."""


def flag_names(flags: int) -> list[str]:
    """The flags as the kernel spells them, lowest first, then the architecture, then unknown bits
    in hexadecimal, as strace prints them."""
    names = [str(flag.name) for flag in KexecFlag if flags & flag]
    rest = flags & ~sum(KexecFlag)
    if name := ARCH_NAMES.get(flags & KEXEC_ARCH_MASK):
        names.append(name)
        rest &= ~KEXEC_ARCH_MASK
    return names + ([f"{rest:#x}"] if rest else [])


def kexec_load_text(entry: int, segments: int, flags: int) -> str:
    """The call as strace would show it, but with the segment array instead of a pointer."""
    array = "segments" if segments else "NULL"
    names = "|".join(flag_names(flags)) or "0"
    return f"kexec_load(entry={entry:#x}, nr_segments={segments}, {array}, flags={names})"
