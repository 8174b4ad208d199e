"""The documents of what a file is and asks for: images, initrds, zero pages, core headers."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from pykexec.cli.documents import fact, kernel
from pykexec.documents.base import spans
from pykexec.documents.files import (
    Archive,
    CoreHeaderContents,
    E820Row,
    HeaderLoad,
    Image,
    ImageProfile,
    InitrdContents,
    ZeroPageFields,
)

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


def image(found: KernelImage) -> Image:
    which = kernel(found)
    profiles = (ImageProfile(item.number, item.id, item.title) for item in found.profiles)
    return Image(
        type=which.type,
        version=which.version,
        sha256=which.sha256,
        wrapped=found.wrapped,
        initrd_inside=found.implied.initrd.size if found.implied.initrd else None,
        cmdline_inside=found.implied.cmdline,
        profiles=tuple(profiles),
        profile=found.profile,
        boot=boot(found.boot),
    )


def boot(asked: Boot) -> dict[str, object]:
    """What the image asks for: its fields, but for those that are bytes of the file."""
    return record(asked)


def record(value: Any) -> dict[str, object]:
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


def initrd(found: Initrd) -> InitrdContents:
    archives = (
        Archive(item.offset, item.codec, item.unpacked, item.files, item.complete)
        for item in found.archives
    )
    return InitrdContents(found.size, found.unpacked, tuple(archives))


def zero_page(found: ZeroPage) -> ZeroPageFields:
    return ZeroPageFields(
        protocol=found.protocol,
        type_of_loader=found.type_of_loader,
        loadflags=found.loadflags,
        xloadflags=found.xloadflags,
        cmd_line_ptr=found.cmd_line_ptr,
        ramdisk_image=found.ramdisk_image,
        setup_data=found.setup_data,
        acpi_rsdp=found.acpi_rsdp,
        pref_address=found.pref_address,
        ramdisk_size=found.ramdisk_size,
        init_size=found.init_size,
        efi=found.efi,
        screen=found.screen,
        e820=tuple(E820Row(row.start, row.end, row.type) for row in found.e820),
    )


def core_headers(found: CoreHeaders) -> CoreHeaderContents:
    return CoreHeaderContents(
        program_headers=found.program_headers,
        memory=found.memory,
        moved=found.moved,
        overlaps=found.overlaps,
        notes=spans(found.notes),
        loads=tuple(HeaderLoad(item.paddr, item.offset, item.size) for item in found.loads),
    )
