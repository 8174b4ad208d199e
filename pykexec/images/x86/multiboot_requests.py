"""What a multiboot 2 header requests from its loader (Multiboot 2 specification, 3.1.5). If
something that is not optional cannot be provided, the image is refused, as a valid image."""

from __future__ import annotations

from pykexec.abi.x86.multiboot import HEADER_TAG_OPTIONAL, HeaderTag, InfoTag
from pykexec.images.kernel_image import Refused
from pykexec.remedies import Use, Wish, any_of

ALWAYS_GIVEN = frozenset(
    (
        *(InfoTag.CMDLINE, InfoTag.BOOT_LOADER_NAME, InfoTag.MODULE, InfoTag.BASIC_MEMINFO),
        *(InfoTag.MMAP, InfoTag.LOAD_BASE_ADDR),
    )
)
DEPENDS_ON_MACHINE = frozenset((InfoTag.FRAMEBUFFER, InfoTag.ACPI_OLD, InfoTag.ACPI_NEW))
"""Provided if the running kernel exposes them."""
NAMES = {
    InfoTag.FRAMEBUFFER: "framebuffer",
    InfoTag.ACPI_OLD: "a copy of the ACPI 1.0 RSDP",
    InfoTag.ACPI_NEW: "a copy of the ACPI 2.0 RSDP",
    5: "BIOS boot device",
    7: "VBE information",
    9: "ELF symbols",
    10: "APM table",
    11: "32-bit EFI system table",
    12: "64-bit EFI system table",
    13: "SMBIOS tables",
    16: "network information of DHCP",
    17: "EFI memory map",
    18: "running EFI boot services",
    19: "32-bit EFI image handle",
    20: "64-bit EFI image handle",
}
"""Information types of the specification, 3.6."""
HINT = any_of(
    "start it with a boot loader",
    Use(Wish.TYPE, "multiboot", " if it also has a version 1 header"),
)


def name_of(kind: int) -> str:
    """The number, and its name if it has one."""
    return f"{kind} ({NAMES[kind]})" if kind in NAMES else f"{kind} (not in the specification)"


def refused_tag(kind: int, flags: int, body: bytes) -> Refused | None:
    """Why a header tag that is not optional cannot be served on any machine."""
    if flags & HEADER_TAG_OPTIONAL:
        return None
    if kind not in tuple(HeaderTag):
        return _unserved(f"it requires header tag {kind}, which is not in the specification")
    if kind == HeaderTag.EFI_BS:
        return _unserved("it requires EFI boot services, which the running kernel has terminated")
    missing = sorted(required(kind, flags, body) - ALWAYS_GIVEN - DEPENDS_ON_MACHINE)
    if missing:
        return _unserved(f"it requires information of type {', '.join(map(name_of, missing))}")
    return None


def required(kind: int, flags: int, body: bytes) -> frozenset[int]:
    """The information types that an information request requires."""
    if kind != HeaderTag.INFORMATION_REQUEST or flags & HEADER_TAG_OPTIONAL:
        return frozenset()
    return requested(body)


def requested(body: bytes) -> frozenset[int]:
    """The information types in the body of an information request."""
    words = (body[n : n + 4] for n in range(0, len(body) & ~3, 4))
    return frozenset(int.from_bytes(word, "little") for word in words)


def _unserved(why: str) -> Refused:
    return Refused(why, unserved=True, hint=HINT)
