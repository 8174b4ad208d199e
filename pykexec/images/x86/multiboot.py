"""Images with a multiboot header: where to find it, and what it requests.

Version 1: in the first 8 KiB, 4-byte aligned, three words that add up to zero. Version 2: in the
first 32 KiB, 8-byte aligned, four such words, followed by tags. An image with a requirement that
cannot be met is refused, as both specifications demand.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pykexec.abi.elf import ELFMAG, EM_386, EM_486, EM_X86_64
from pykexec.abi.x86.multiboot import (
    MULTIBOOT2_ARCHITECTURE_I386,
    MULTIBOOT2_HEADER_ALIGN,
    MULTIBOOT2_HEADER_MAGIC,
    MULTIBOOT2_SEARCH,
    MULTIBOOT_DEMANDS,
    MULTIBOOT_HEADER_ALIGN,
    MULTIBOOT_HEADER_MAGIC,
    MULTIBOOT_KNOWN,
    MULTIBOOT_SEARCH,
    MULTIBOOT_TAG_ALIGN,
    HeaderFlag,
    HeaderTag,
    InfoTag,
    Preference,
    address_tag,
    aout_kludge,
    multiboot2_header,
    multiboot2_header_tag,
    multiboot_header,
    relocatable_tag,
)
from pykexec.frozen import dataclass
from pykexec.images.elf_file import read_elf
from pykexec.images.elf_parts import MAX_MEMORY, load_parts
from pykexec.images.kernel_image import (
    ImageType,
    KernelImage,
    LoadPart,
    LoadRange,
    MultibootBoot,
    Refused,
)
from pykexec.images.x86.multiboot_requests import refused_tag, requested, required
from pykexec.memory.ranges import align_up

if TYPE_CHECKING:
    from pykexec.images.contents import OpenFile

WORD = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class PartsAndEntry:
    """Parts and entry, from either kind of description."""

    parts: tuple[LoadPart, ...]
    entry: int


def _parse_1(file: OpenFile) -> KernelImage | Refused:
    """Multiboot 1: an ELF file, or anything with the a.out kludge."""
    size = multiboot_header.sizeof()
    head = file.read(0, min(file.size, MULTIBOOT_SEARCH))
    magic = MULTIBOOT_HEADER_MAGIC.to_bytes(4, "little")
    for at in _places(head, magic, MULTIBOOT_HEADER_ALIGN, size):
        header = multiboot_header.parse(head[at : at + size])
        if (header.magic + header.flags + header.checksum) & WORD:
            continue
        if unknown := header.flags & MULTIBOOT_DEMANDS & ~MULTIBOOT_KNOWN:
            return Refused(
                f"it requires flags {unknown:#x} of its header, which are not in the specification",
                unserved=True,
                hint="start it with a boot loader that supports them",
            )
        kludge = header.flags & HeaderFlag.MULTIBOOT_AOUT_KLUDGE
        loaded = _by_kludge(file, head, at) if kludge else _by_elf(file)
        if isinstance(loaded, Refused):
            return loaded
        boot = MultibootBoot(
            version=1,
            entry=loaded.entry,
            parts=loaded.parts,
            memory_info=bool(header.flags & HeaderFlag.MULTIBOOT_MEMORY_INFO),
            framebuffer=bool(header.flags & HeaderFlag.MULTIBOOT_VIDEO_MODE),
        )
        return image(file, "multiboot", boot)
    return Refused("no multiboot header with a good checksum in the first 8 KiB")


def _parse_2(file: OpenFile) -> KernelImage | Refused:
    """Multiboot 2."""
    size = multiboot2_header.sizeof()
    head = file.read(0, min(file.size, MULTIBOOT2_SEARCH))
    magic = MULTIBOOT2_HEADER_MAGIC.to_bytes(4, "little")
    for at in _places(head, magic, MULTIBOOT2_HEADER_ALIGN, size):
        header = multiboot2_header.parse(head[at : at + size])
        words = (header.magic, header.architecture, header.header_length, header.checksum)
        if sum(words) & WORD:
            continue
        if header.architecture != MULTIBOOT2_ARCHITECTURE_I386:
            return Refused(
                f"it is for architecture {header.architecture}, expected 0 (i386)",
                unserved=True,
                hint="use a kernel for x86",
            )
        found = _header_tags(head, at, header.header_length)
        return found if isinstance(found, Refused) else _with_tags(file, at, found)
    return Refused("no multiboot 2 header with a good checksum in the first 32 KiB")


def _places(head: bytes, magic: bytes, align: int, size: int) -> Iterator[int]:
    """Aligned offsets of complete headers with this magic."""
    at = head.find(magic)
    while 0 <= at <= len(head) - size:
        if at % align == 0:
            yield at
        at = head.find(magic, at + 1)


def image(file: OpenFile, name: str, boot: MultibootBoot) -> KernelImage | Refused:
    """The image, if a processor in 32-bit mode can reach all of it."""
    if boot.parts[-1].end > 1 << 32:
        return Refused(f"it ends at {boot.parts[-1].end:#x}, above 4 GiB", close=True)
    if not any(boot.entry in part for part in boot.parts):
        return Refused(f"entry {boot.entry:#x} is outside of its parts", close=True)
    return KernelImage(
        type=name,
        path=str(file.path),
        version=None,
        payload=file.span(0, file.size),
        boot=boot,
    )


def _by_elf(file: OpenFile) -> PartsAndEntry | Refused:
    """By the program headers of an ELF file of either size: the entry is in 32-bit mode."""
    if file.read(0, min(4, file.size)) != ELFMAG:
        return Refused("the header has no addresses, and the file is not an ELF file")
    elf = read_elf(file)
    if isinstance(elf, Refused):
        return elf
    if elf.machine not in (EM_386, EM_486, EM_X86_64):
        return Refused(f"ELF machine {elf.machine}, expected {EM_386}", close=True)
    parts = load_parts(file, elf)
    return parts if isinstance(parts, Refused) else PartsAndEntry(parts, elf.entry)


def _by_kludge(file: OpenFile, head: bytes, at: int) -> PartsAndEntry | Refused:
    """By the five addresses after a version 1 header."""
    start = at + multiboot_header.sizeof()
    raw = head[start : start + aout_kludge.sizeof()]
    if len(raw) < aout_kludge.sizeof():
        return Refused("truncated: the addresses of its header are cut off", close=True)
    fields = aout_kludge.parse(raw)
    return _by_addresses(file, at, fields, fields.entry_addr)


def _by_addresses(file: OpenFile, at: int, fields: Any, entry: int) -> PartsAndEntry | Refused:
    """Multiboot 1, 3.1.3 and 2, 3.1.5: the header is at header_addr, which determines the file's
    first loaded byte; 0 as an end means the file's end, or no bss."""
    if fields.header_addr == WORD:
        return Refused("its header gives no header_addr", close=True)
    ahead = fields.header_addr - fields.load_addr
    offset = 0 if fields.load_addr == WORD else at - ahead
    load_addr = fields.header_addr - at if fields.load_addr == WORD else fields.load_addr
    if offset < 0 or load_addr < 0 or (ahead < 0 and fields.load_addr != WORD):
        return Refused(
            f"header_addr {fields.header_addr:#x} and load_addr {fields.load_addr:#x} "
            "contradict each other",
            close=True,
        )
    size = fields.load_end_addr - load_addr if fields.load_end_addr else file.size - offset
    if not 0 < size <= file.size - offset:
        return Refused(
            f"load_end_addr {fields.load_end_addr:#x} needs {size:#x} bytes, but the file "
            f"has {file.size - offset:#x}",
            close=True,
        )
    end = max(fields.bss_end_addr, load_addr + size)
    if end - load_addr > MAX_MEMORY:
        return Refused(f"bss_end_addr {fields.bss_end_addr:#x} is too large", close=True)
    part = LoadPart(load_addr, end - load_addr, file.span(offset, size))
    return PartsAndEntry((part,), entry)


@dataclass(frozen=True, slots=True)
class Tags:
    """The bodies of the header tags, the required information, and all requested information."""

    bodies: dict[int, bytes]
    required: frozenset[int]
    requested: frozenset[int]


def _header_tags(head: bytes, at: int, length: int) -> Tags | Refused:
    """Refused for a tag that is not optional and cannot be served."""
    end, found = at + length, dict[int, bytes]()
    needed, asked = frozenset[int](), frozenset[int]()
    if length < multiboot2_header.sizeof() or end > len(head):
        return Refused(f"header_length {length:#x} extends beyond the first 32 KiB", close=True)
    where, head_size = at + multiboot2_header.sizeof(), multiboot2_header_tag.sizeof()
    while where + head_size <= end:
        tag = multiboot2_header_tag.parse(head[where : where + head_size])
        if tag.size < head_size or where + tag.size > end:
            return Refused(f"tag {tag.type} of {tag.size:#x} bytes at {where:#x}", close=True)
        if tag.type == HeaderTag.END:
            return Tags(found, needed, asked)
        body = head[where + head_size : where + tag.size]
        if refused := refused_tag(tag.type, tag.flags, body):
            return refused
        needed |= required(tag.type, tag.flags, body)
        if tag.type == HeaderTag.INFORMATION_REQUEST:
            asked |= requested(body)
        found[tag.type] = body
        where = align_up(where + tag.size, MULTIBOOT_TAG_ALIGN)
    return Refused("its tags have no end tag", close=True)


def _with_tags(file: OpenFile, at: int, found: Tags) -> KernelImage | Refused:
    """The image that the tags of a version 2 header describe."""
    tags = found.bodies
    sizes = {
        HeaderTag.ADDRESS: address_tag.sizeof(),
        HeaderTag.ENTRY_ADDRESS: 4,
        HeaderTag.RELOCATABLE: relocatable_tag.sizeof(),
    }
    for kind, size in sizes.items():
        if kind in tags and len(tags[kind]) < size:
            return Refused(f"tag {kind} of {len(tags[kind]) + 8:#x} bytes", close=True)
    entry_tag = tags.get(HeaderTag.ENTRY_ADDRESS)
    entry = int.from_bytes(entry_tag[:4], "little") if entry_tag else None
    loaded: PartsAndEntry | Refused
    if HeaderTag.ADDRESS in tags:
        if entry is None:
            return Refused("it has an address tag but no entry address tag", close=True)
        loaded = _by_addresses(file, at, address_tag.parse(tags[HeaderTag.ADDRESS]), entry)
    else:
        loaded = _by_elf(file)
    if isinstance(loaded, Refused):
        return loaded
    wish = tags.get(HeaderTag.RELOCATABLE)
    relocation = _relocation_of(wish, loaded) if wish else None
    if isinstance(relocation, Refused):
        return relocation
    boot = MultibootBoot(
        version=2,
        entry=loaded.entry if entry is None else entry,
        parts=loaded.parts,
        framebuffer=HeaderTag.FRAMEBUFFER in tags or InfoTag.FRAMEBUFFER in found.requested,
        relocation=relocation,
        required=tuple(sorted(found.required)),
    )
    return image(file, "multiboot2", boot)


def _relocation_of(body: bytes, loaded: PartsAndEntry) -> LoadRange | Refused:
    """Where the image may be moved to; refused if it does not fit there."""
    fields = relocatable_tag.parse(body[: relocatable_tag.sizeof()])
    size = loaded.parts[-1].end - loaded.parts[0].addr
    if fields.align & (fields.align - 1) or not fields.align:
        return Refused(
            f"relocatable tag: align {fields.align:#x} is not a power of two", close=True
        )
    if fields.max_addr - fields.min_addr + 1 < size:
        return Refused(
            f"relocatable tag: {fields.min_addr:#x} to {fields.max_addr:#x} has no room for "
            f"{size:#x} bytes",
            close=True,
        )
    return LoadRange(
        fields.min_addr,
        fields.max_addr,
        fields.align,
        from_top=fields.preference == Preference.HIGHEST,
    )


MULTIBOOT2 = ImageType("multiboot2", _parse_2)
MULTIBOOT = ImageType("multiboot", _parse_1)
