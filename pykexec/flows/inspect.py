"""What a file is and what it asks for: a kernel image, an initrd, a zero page, the headers
of a dump or a dump; and the vmlinux that is packed in a bzImage.

Named so since `inspect` is a module of Python's own.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pykexec.abi.elf import (
    EHDR,
    ELFCLASS64,
    ELFDATA2LSB,
    ELFMAG,
    EM_X86_64,
    ET_CORE,
    PHDR,
    PT_LOAD,
    PT_NOTE,
)
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
from pykexec.dump.core_file import CoreFile, is_core, open_core
from pykexec.errors import NotSupported
from pykexec.images.compression import MAX_KEPT, file_codec, unpack
from pykexec.images.contents import InnerFile, OpenFile, UnreadableFile, write_new
from pykexec.images.identify import identify
from pykexec.images.initrd import Initrd, looks_like_initrd, read_initrd
from pykexec.images.kernel_image import KernelImage, Linux32Boot, LinuxX86Boot
from pykexec.images.x86.bzimage import HAS_PAYLOAD, SECTOR
from pykexec.memory.ranges import PhysRange

MAX_CORE_HEADERS = 16 << 20
"""65,535 program headers and their notes have 4 MiB; what is larger is a dump, cut off."""


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


@dataclass(frozen=True, slots=True)
class OldRange:
    """`size` bytes of the first kernel: original address, and where they are read from."""

    paddr: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class CoreHeaders:
    """ELF core headers without the memory that they describe, as elfcorehdr= points at."""

    program_headers: int
    notes: tuple[PhysRange, ...]
    loads: tuple[OldRange, ...]
    moved: int
    """Bytes that are not where they were: backup pages."""
    overlaps: int
    """PT_LOADs that show an address which another one shows too; the kernel's text does."""

    @property
    def memory(self) -> int:
        return sum(item.size for item in self.loads)


Found = KernelImage | Initrd | ZeroPage | CoreHeaders | CoreFile


def inspect_file(
    path: str | os.PathLike[str], image_type: str | None = None, profile: int | None = None
) -> Found:
    """Raises KexecError: UnreadableFile, or what is wrong with a file that tries to be one."""
    if image_type is not None or profile is not None:
        return identify(path, image_type, profile)
    file = OpenFile(path)
    if is_zero_page(file):
        return zero_page(file.read(0, BOOT_PARAMS_SIZE))
    if is_core(path):
        headers = read_core_headers(file)
        return headers or open_core(path)
    if looks_like_initrd(file):
        return read_initrd(file)
    return identify(path)


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


def read_core_headers(file: OpenFile) -> CoreHeaders | None:
    """None where some of the memory is in the file: that is a dump."""
    fields = EHDR.unpack(file.read(0, EHDR.size))
    ident, e_type, machine, phoff, count = fields[0], fields[1], fields[2], fields[5], fields[10]
    if (ident[4], ident[5], e_type, machine) != (ELFCLASS64, ELFDATA2LSB, ET_CORE, EM_X86_64):
        return None
    if not count or phoff + count * PHDR.size > file.size:
        return None
    rows = list(PHDR.iter_unpack(file.read(phoff, count * PHDR.size)))
    loads = [(row[4], row[2], row[5]) for row in rows if row[0] == PT_LOAD and row[5]]
    inside = any(offset + size <= file.size for _, offset, size in loads)
    if not loads or inside or file.size > MAX_CORE_HEADERS:
        return None
    notes = [(row[2], row[5]) for row in rows if row[0] == PT_NOTE and row[5]]
    return CoreHeaders(
        program_headers=count,
        notes=tuple(PhysRange.sized(addr, size) for addr, size in notes if addr + size <= 1 << 64),
        loads=tuple(OldRange(*row) for row in loads),
        moved=sum(size for paddr, offset, size in loads if paddr != offset),
        overlaps=overlapping(loads),
    )


def overlapping(loads: list[tuple[int, int, int]]) -> int:
    """How many PT_LOADs start before an earlier one ends, by original address."""
    end = count = 0
    for paddr, _, size in sorted(loads):
        count += paddr < end
        end = max(end, paddr + size)
    return count


class NoVmlinux(NotSupported):
    """Nothing packed in it, or nothing that says where."""

    code = "no-vmlinux"
    usual_hint = "the file is damaged, or compressed in an unknown way"


def extract_vmlinux(
    path: str | os.PathLike[str],
    out: Path,
    image_type: str | None = None,
    profile: int | None = None,
) -> KernelImage:
    """Write the ELF file that is packed in a bzImage (or wrapped otherwise) to a new file.

    Returns the image it was taken out of. Raises NoVmlinux, BadCompression, MissingCodec,
    or UnreadableFile where `out` exists or cannot be written.
    """
    image = identify(path, image_type, profile)
    file = packed_vmlinux(image)
    try:
        write_new(out, file.span(0, file.size).chunks())
    except OSError as error:
        raise UnreadableFile(f"{out}: cannot be written: {error.strerror}") from error
    return image


def packed_vmlinux(image: KernelImage) -> OpenFile:
    """As a file without a name; its contents may be followed by relocations."""
    file = image.inner
    if file is None or not isinstance(image.boot, LinuxX86Boot | Linux32Boot):
        raise NoVmlinux(
            f"{image.path}: an image of type {image.type} contains no vmlinux",
            hint="use a bzImage, or a file that contains one",
        )
    if file.read(0, 4) == ELFMAG:
        return file
    header = setup_header.parse(image.boot.setup_header)
    start = (header.setup_sects or 4) * SECTOR + SECTOR + header.payload_offset
    size = header.payload_length
    if image.boot.protocol < HAS_PAYLOAD or not size or start + size > file.size:
        raise NoVmlinux(
            f"{image.path}: the header does not contain the address of the packed kernel",
            hint="use an image of boot protocol 2.08 or later (Linux 2.6.26)",
        )
    inner = InnerFile(file, start, size)
    codec = file_codec(inner)
    if codec is None:
        if inner.read(0, min(4, size)) == ELFMAG:
            return inner
        raise NoVmlinux(f"{image.path}: the compression of the packed kernel is unknown")
    unpacked = unpack(inner, codec, MAX_KEPT - file.size if image.wrapped else MAX_KEPT)
    if unpacked.read(0, min(4, unpacked.size)) != ELFMAG:
        raise NoVmlinux(f"{image.path}: the packed kernel is not an ELF file")
    return unpacked
