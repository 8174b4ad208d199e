"""The documents of what a file is and asks for: images, initrds, zero pages, core headers."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from pykexec.cli.documents import Document, fact, kernel, span

if TYPE_CHECKING:
    from pykexec.flows.inspect import CoreHeaders, ZeroPage
    from pykexec.images.initrd import Initrd
    from pykexec.images.kernel_image import Boot, KernelImage

NUMBERS_IN_HEX = frozenset(
    (
        *("protocol", "xloadflags", "pref_address", "load_addr", "initrd_addr_max", "entry"),
        *("addr", "low", "high"),
    )
)
"""Of a boot: addresses and bit fields; the other numbers are sizes and counts."""
BYTES_OF_THE_FILE = frozenset(("setup_header", "setup", "contents"))


def image(found: KernelImage) -> Document:
    """pykexec.image/1"""
    return {
        "schema": "pykexec.image/1",
        **kernel(found),
        "wrapped": list(found.wrapped),
        "initrd_inside": found.implied.initrd.size if found.implied.initrd else None,
        "cmdline_inside": found.implied.cmdline,
        "profiles": [
            {"number": item.number, "id": item.id, "title": item.title} for item in found.profiles
        ],
        "profile": found.profile,
        "boot": boot(found.boot),
    }


def boot(asked: Boot) -> Document:
    """What the image asks for: its fields, but for those that are bytes of the file."""
    return record(asked)


def record(value: Any) -> Document:
    named = {field.name: getattr(value, field.name) for field in fields(value)}
    return {
        name: boot_fact(name, item) for name, item in named.items() if name not in BYTES_OF_THE_FILE
    }


def boot_fact(name: str, value: object) -> object:
    """The facts of a foreign image by their names; pieces of an image as records."""
    if name == "facts" and isinstance(value, tuple):
        return {label.replace(" ", "_"): said for label, said in value}
    if isinstance(value, tuple):
        return [boot_fact(name, item) for item in value]
    if is_dataclass(value):
        return record(value)
    if isinstance(value, int) and name in NUMBERS_IN_HEX:
        return hex(value)
    return fact(value)


def initrd(found: Initrd) -> Document:
    """pykexec.initrd/1"""
    return {
        "schema": "pykexec.initrd/1",
        "size": found.size,
        "unpacked": found.unpacked,
        "archives": [
            {
                "offset": hex(item.offset),
                "codec": item.codec,
                "unpacked": item.unpacked,
                "files": item.files,
                "complete": item.complete,
            }
            for item in found.archives
        ],
    }


ADDRESSES_OF_A_PAGE = (
    "protocol",
    "type_of_loader",
    "loadflags",
    "xloadflags",
    "cmd_line_ptr",
    "ramdisk_image",
    "setup_data",
    "acpi_rsdp",
    "pref_address",
)


def zero_page(found: ZeroPage) -> Document:
    """pykexec.zero-page/1"""
    numbers = {name: getattr(found, name) for name in ADDRESSES_OF_A_PAGE}
    return {
        "schema": "pykexec.zero-page/1",
        **{name: hex(value) for name, value in numbers.items()},
        "ramdisk_size": found.ramdisk_size,
        "init_size": found.init_size,
        "efi": found.efi,
        "screen": found.screen,
        "e820": [
            {"start": hex(row.start), "end": hex(row.end), "type": row.type} for row in found.e820
        ],
    }


def core_headers(found: CoreHeaders) -> Document:
    """pykexec.core-headers/1"""
    return {
        "schema": "pykexec.core-headers/1",
        "program_headers": found.program_headers,
        "memory": found.memory,
        "moved": found.moved,
        "overlaps": found.overlaps,
        "notes": [span(item) for item in found.notes],
        "loads": [
            {"paddr": hex(item.paddr), "offset": hex(item.offset), "size": item.size}
            for item in found.loads
        ],
    }
