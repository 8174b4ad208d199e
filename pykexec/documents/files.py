"""pykexec.image/1, pykexec.initrd/1, pykexec.zero-page/1 and pykexec.core-headers/1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from pykexec.documents.base import Hex, Sha256, Span


@dataclass(frozen=True, slots=True)
class ImageProfile:
    """a profile of a UKI"""

    number: int
    id: str | None
    title: str | None


@dataclass(frozen=True, slots=True)
class Image:
    """what a kernel image is and requires; the fields of boot depend on its type"""

    schema: ClassVar[str] = "pykexec.image/1"
    type: str
    version: str | None
    sha256: Sha256 | None
    wrapped: tuple[str, ...]
    """compressions and containers around it, outermost first"""
    initrd_inside: int | None
    """bytes"""
    cmdline_inside: str | None
    profiles: tuple[ImageProfile, ...]
    """of a UKI"""
    profile: int | None
    """the number of the described one"""
    boot: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Archive:
    """a cpio archive, possibly compressed"""

    offset: Hex
    codec: str | None
    unpacked: int
    files: int | None
    """null for a compressed archive, whose size alone is counted"""
    complete: bool
    """false if unpacking stopped at the limit"""


@dataclass(frozen=True, slots=True)
class InitrdContents:
    """the contents of an initrd; sizes in bytes"""

    schema: ClassVar[str] = "pykexec.initrd/1"
    size: int
    unpacked: int
    """of all archives"""
    archives: tuple[Archive, ...]


@dataclass(frozen=True, slots=True)
class E820Row:
    """a row of the E820 table"""

    start: Hex
    end: Hex
    type: str


@dataclass(frozen=True, slots=True)
class ZeroPageFields:
    """struct boot_params; addresses are physical, sizes in bytes"""

    schema: ClassVar[str] = "pykexec.zero-page/1"
    protocol: Hex
    type_of_loader: Hex
    loadflags: Hex
    xloadflags: Hex
    cmd_line_ptr: Hex
    ramdisk_image: Hex
    setup_data: Hex
    acpi_rsdp: Hex
    pref_address: Hex
    ramdisk_size: int
    init_size: int
    efi: str | None
    screen: str | None
    e820: tuple[E820Row, ...]


@dataclass(frozen=True, slots=True)
class HeaderLoad:
    """a PT_LOAD"""

    paddr: Hex
    offset: Hex
    size: int


@dataclass(frozen=True, slots=True)
class CoreHeaderContents:
    """ELF core headers without the memory that they describe; sizes in bytes"""

    schema: ClassVar[str] = "pykexec.core-headers/1"
    program_headers: int
    memory: int
    moved: int
    """bytes that are read from elsewhere: backup pages"""
    overlaps: int
    notes: tuple[Span, ...]
    loads: tuple[HeaderLoad, ...]
