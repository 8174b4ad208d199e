"""The information that a multiboot image gets: command line, memory map, modules, framebuffer, as
either version has it (the Multiboot and Multiboot 2 specifications, "Boot information format").
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pykexec import __version__
from pykexec.abi.acpi import RSDP_V1_SIZE
from pykexec.abi.x86.multiboot import (
    MULTIBOOT_TAG_ALIGN,
    FramebufferType,
    InfoFlag,
    InfoTag,
    MemoryType,
    framebuffer_tag,
    info_head,
    info_tag,
    meminfo_tag,
    mmap_entry,
    mmap_tag,
    module_tag,
    multiboot_info,
    multiboot_mmap_entry,
    multiboot_module,
)
from pykexec.memory.map import MemoryMap, RangeType
from pykexec.memory.ranges import MIB, align_up

RSDT_AT = 16
"""Offset of the address of the RSDT in a root pointer."""
LOADER = f"pykexec {__version__}"
MEMORY_TYPES = {
    RangeType.RAM: MemoryType.MULTIBOOT_MEMORY_AVAILABLE,
    RangeType.ACPI: MemoryType.MULTIBOOT_MEMORY_ACPI_RECLAIMABLE,
    RangeType.NVS: MemoryType.MULTIBOOT_MEMORY_NVS,
    RangeType.UNUSABLE: MemoryType.MULTIBOOT_MEMORY_BADRAM,
}
"""Everything else is reserved."""


@dataclass(frozen=True, slots=True)
class LoadedModule:
    """`end` is the address after it."""

    start: int
    end: int
    line: str


@dataclass(frozen=True, slots=True)
class Framebuffer:
    """The screen: fields of struct screen_info with multiboot's names."""

    addr: int
    pitch: int
    width: int
    height: int
    bpp: int
    type: FramebufferType
    colors: bytes = b""
    """Position and width of red, green and blue."""


@dataclass(frozen=True, slots=True)
class Information:
    """What the image gets, in either version."""

    cmdline: str
    memory_map: MemoryMap
    modules: tuple[LoadedModule, ...]
    framebuffer: Framebuffer | None
    memory_info: bool
    load_base: int | None
    rsdp: bytes | None = None
    """The ACPI root pointer, 20 or 36 bytes."""

    @property
    def mem_lower(self) -> int:
        """KiB from address 0, at most 640."""
        first = next((item for item in self.memory_map.ram if item.start <= 0x1000), None)
        return min(first.end, 0xA0000) >> 10 if first else 0

    @property
    def mem_upper(self) -> int:
        """KiB from 1 MiB up to the first hole."""
        over = next((item for item in self.memory_map.ram if MIB in item), None)
        return min(over.end - MIB >> 10, (1 << 32) - 1) if over else 0

    def version_1(self, at: int) -> bytes:
        """struct multiboot_info, followed by what it points to; `at` is its address."""
        size = multiboot_info.sizeof()
        fields = multiboot_info.parse(bytes(size))
        body = bytearray()

        def add(data: bytes) -> int:
            body.extend(bytes(-len(body) % 4))
            body.extend(data)
            return at + int(size) + len(body) - len(data)

        fields.flags = InfoFlag.MULTIBOOT_INFO_CMDLINE | InfoFlag.MULTIBOOT_INFO_BOOT_LOADER_NAME
        fields.cmdline, fields.boot_loader_name = add(text(self.cmdline)), add(text(LOADER))
        if self.memory_info:
            fields.flags |= InfoFlag.MULTIBOOT_INFO_MEMORY | InfoFlag.MULTIBOOT_INFO_MEM_MAP
            fields.mem_lower, fields.mem_upper = self.mem_lower, self.mem_upper
            rows = b"".join(
                multiboot_mmap_entry.build({"size": 20, "addr": addr, "len": length, "type": kind})
                for addr, length, kind in self.rows
            )
            fields.mmap_addr, fields.mmap_length = add(rows), len(rows)
        if self.modules:
            fields.flags |= InfoFlag.MULTIBOOT_INFO_MODS
            lines = [add(text(module.line)) for module in self.modules]
            fields.mods_count = len(lines)
            fields.mods_addr = add(
                b"".join(
                    multiboot_module.build(
                        {"mod_start": item.start, "mod_end": item.end, "cmdline": where, "pad": 0}
                    )
                    for item, where in zip(self.modules, lines, strict=True)
                )
            )
        if self.framebuffer:
            fields.flags |= InfoFlag.MULTIBOOT_INFO_FRAMEBUFFER_INFO
            screen = self.framebuffer
            fields.framebuffer_addr, fields.framebuffer_pitch = screen.addr, screen.pitch
            fields.framebuffer_width, fields.framebuffer_height = screen.width, screen.height
            fields.framebuffer_bpp_type = screen.bpp | screen.type << 8
            fields.color_info = list(struct.unpack("<3H", screen.colors.ljust(6, b"\0")))
        head: bytes = multiboot_info.build(fields)
        return head + bytes(body)

    def version_2(self, at: int) -> bytes:
        """A series of tags; they contain no pointers to each other, so `at` does not matter."""
        rows = b"".join(
            mmap_entry.build({"addr": addr, "len": length, "type": kind, "zero": 0})
            for addr, length, kind in self.rows
        )
        lower_upper = {"mem_lower": self.mem_lower, "mem_upper": self.mem_upper}
        tags = [
            _tag(InfoTag.BASIC_MEMINFO, meminfo_tag.build(lower_upper)),
            _tag(InfoTag.MMAP, mmap_tag.build({"entry_size": 24, "entry_version": 0}) + rows),
        ]
        if self.load_base is not None:
            tags.append(_tag(InfoTag.LOAD_BASE_ADDR, struct.pack("<I", self.load_base)))
        tags.append(_tag(InfoTag.CMDLINE, text(self.cmdline)))
        tags.append(_tag(InfoTag.BOOT_LOADER_NAME, text(LOADER)))
        if self.framebuffer:
            tags.append(_tag(InfoTag.FRAMEBUFFER, _framebuffer_body(self.framebuffer)))
        tags += [_tag(kind, raw) for kind, raw in rsdp_tags(self.rsdp or b"").items()]
        for module in self.modules:
            place = module_tag.build({"mod_start": module.start, "mod_end": module.end})
            tags.append(_tag(InfoTag.MODULE, place + text(module.line)))
        tags.append(_tag(InfoTag.END, b""))
        body = b"".join(tags)
        size = info_head.sizeof() + len(body)
        built: bytes = info_head.build({"total_size": size, "reserved": 0}) + body
        return built

    @property
    def rows(self) -> list[tuple[int, int, MemoryType]]:
        """Address, length and type of each range of the memory map."""
        reserved = MemoryType.MULTIBOOT_MEMORY_RESERVED
        return [
            (item.range.start, item.range.size, MEMORY_TYPES.get(item.type, reserved))
            for item in self.memory_map.ranges
        ]


def text(line: str) -> bytes:
    """With the terminating NUL; bytes that are not UTF-8 are preserved."""
    return line.encode(errors="surrogateescape") + b"\0"


def _tag(kind: InfoTag, body: bytes) -> bytes:
    """One tag, padded to the start of the next one."""
    size = info_tag.sizeof() + len(body)
    built: bytes = info_tag.build({"type": kind, "size": size}) + body
    return built.ljust(align_up(size, MULTIBOOT_TAG_ALIGN), b"\0")


def rsdp_tags(table: bytes) -> dict[InfoTag, bytes]:
    """The copies of this root pointer that can be provided: its ACPI 1.0 part, if it has an RSDT,
    and the complete one of later versions."""
    if not table:
        return {}
    old = table[:RSDP_V1_SIZE]
    tags = {InfoTag.ACPI_OLD: old} if any(old[RSDT_AT:]) else {}
    return tags | ({InfoTag.ACPI_NEW: table} if len(table) > RSDP_V1_SIZE else {})


def _framebuffer_body(screen: Framebuffer) -> bytes:
    built: bytes = framebuffer_tag.build(
        {
            "framebuffer_addr": screen.addr,
            "framebuffer_pitch": screen.pitch,
            "framebuffer_width": screen.width,
            "framebuffer_height": screen.height,
            "framebuffer_bpp_type": screen.bpp | screen.type << 8,
            "reserved": 0,
        }
    )
    return built + screen.colors
