"""A zero page (struct boot_params) as a file, e.g. /sys/kernel/boot_params/data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykexec.abi.pe import MZ_MAGIC
from pykexec.abi.x86.bootparam import (
    BOOT_PARAMS_SIZE,
    E820_MAX_ENTRIES_ZEROPAGE,
    HDRS_MAGIC,
    SETUP_HEADER_OFFSET,
    BootParamsField,
    E820Type,
    boot_params,
    e820_entry,
    screen_info,
    setup_header,
)

if TYPE_CHECKING:
    from pykexec.images.contents import OpenFile

ZERO_PAGE_SIZE = BOOT_PARAMS_SIZE


@dataclass(frozen=True, slots=True)
class E820Entry:
    """One row of the zero page's memory map, `start` to `end` half-open."""

    start: int
    end: int
    type: str


@dataclass(frozen=True, slots=True)
class ZeroPage:
    """A struct boot_params, e.g. /sys/kernel/boot_params/data; addresses physical."""

    protocol: int
    type_of_loader: int
    loadflags: int
    xloadflags: int
    cmd_line_ptr: int
    ramdisk_image: int
    ramdisk_size: int
    setup_data: int
    acpi_rsdp: int
    init_size: int
    pref_address: int
    efi: str | None
    """Signature of efi_info, e.g. "EL64"."""
    screen: str | None
    """Width and height, and of what."""
    e820: tuple[E820Entry, ...]


def is_zero_page(file: OpenFile) -> bool:
    """One page with a setup header or a memory map, and nothing of the boot sector that a
    bzImage has in front of it: no MZ, and the sentinel that a loader has to clear."""
    if file.size != BOOT_PARAMS_SIZE:
        return False
    raw = file.read(0, BOOT_PARAMS_SIZE)
    if raw[:2] == MZ_MAGIC or raw[BootParamsField.SENTINEL]:
        return False
    rows = e820(raw, raw[BootParamsField.E820_ENTRIES])
    return raw[0x202:0x206] == HDRS_MAGIC or (
        bool(rows) and all(row.end > row.start and not row.type.startswith("0x") for row in rows)
    )


def zero_page(raw: bytes) -> ZeroPage:
    """The fields that a loader sets."""
    page = boot_params.parse(raw)
    header = setup_header.parse(raw[SETUP_HEADER_OFFSET:])
    signature = bytes(page.efi_info[:4])
    return ZeroPage(
        protocol=header.version,
        type_of_loader=header.type_of_loader,
        loadflags=header.loadflags,
        xloadflags=header.xloadflags,
        cmd_line_ptr=header.cmd_line_ptr | page.ext_cmd_line_ptr << 32,
        ramdisk_image=header.ramdisk_image | page.ext_ramdisk_image << 32,
        ramdisk_size=header.ramdisk_size | page.ext_ramdisk_size << 32,
        setup_data=header.setup_data,
        acpi_rsdp=page.acpi_rsdp_addr,
        init_size=header.init_size,
        pref_address=header.pref_address,
        efi=signature.decode("ascii", "replace") if any(signature) else None,
        screen=screen(raw),
        e820=e820(raw, page.e820_entries),
    )


def screen(raw: bytes) -> str | None:
    found = screen_info.parse(raw)
    if found.lfb_width and found.lfb_base:
        return f"{found.lfb_width}x{found.lfb_height}, {found.lfb_depth} bits a pixel"
    if found.orig_video_cols:
        return f"{found.orig_video_cols}x{found.orig_video_lines} characters"
    return None


def e820(raw: bytes, count: int) -> tuple[E820Entry, ...]:
    size, at = e820_entry.sizeof(), BootParamsField.E820_TABLE
    rows = []
    for n in range(min(count, E820_MAX_ENTRIES_ZEROPAGE)):
        row = e820_entry.parse(raw[at + n * size : at + (n + 1) * size])
        known = row.type in tuple(E820Type)
        kind = E820Type(row.type).name.removeprefix("E820_TYPE_") if known else f"{row.type:#x}"
        rows.append(E820Entry(row.addr, row.addr + row.size, kind))
    return tuple(rows)
