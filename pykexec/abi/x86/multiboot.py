"""Multiboot 1 (0.6.96) and 2 (2.0): headers in the image, and what the loader passes to it.

Field names are those of the specifications; multiboot.h and multiboot2.h at
https://www.gnu.org/software/grub/manual/.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

from pykexec.abi.record import Int16ul, Int32ul, Int64ul, Struct

MULTIBOOT_SEARCH = 8192
MULTIBOOT_HEADER_ALIGN = 4
MULTIBOOT_HEADER_MAGIC = 0x1BADB002
MULTIBOOT_BOOTLOADER_MAGIC = 0x2BADB002
"""EAX at the entry; EBX is the address of struct multiboot_info."""

MULTIBOOT2_SEARCH = 32768
MULTIBOOT2_HEADER_ALIGN = 8
MULTIBOOT2_HEADER_MAGIC = 0xE85250D6
MULTIBOOT2_BOOTLOADER_MAGIC = 0x36D76289
MULTIBOOT2_ARCHITECTURE_I386 = 0
MULTIBOOT_TAG_ALIGN = 8


class HeaderFlag(IntFlag):
    """Multiboot 1: bits 0 to 15 are requirements; a loader must refuse an image with an unknown
    one."""

    MULTIBOOT_PAGE_ALIGN = 0x1
    MULTIBOOT_MEMORY_INFO = 0x2
    MULTIBOOT_VIDEO_MODE = 0x4
    MULTIBOOT_AOUT_KLUDGE = 0x10000


MULTIBOOT_DEMANDS = 0xFFFF
MULTIBOOT_KNOWN = (
    HeaderFlag.MULTIBOOT_PAGE_ALIGN
    | HeaderFlag.MULTIBOOT_MEMORY_INFO
    | HeaderFlag.MULTIBOOT_VIDEO_MODE
)

multiboot_header = Struct("magic" / Int32ul, "flags" / Int32ul, "checksum" / Int32ul)

aout_kludge = Struct(
    "header_addr" / Int32ul,
    "load_addr" / Int32ul,
    "load_end_addr" / Int32ul,
    "bss_end_addr" / Int32ul,
    "entry_addr" / Int32ul,
)
"""Follows the header if MULTIBOOT_AOUT_KLUDGE is set."""


class InfoFlag(IntFlag):
    """struct multiboot_info: which fields are valid."""

    MULTIBOOT_INFO_MEMORY = 0x1
    MULTIBOOT_INFO_CMDLINE = 0x4
    MULTIBOOT_INFO_MODS = 0x8
    MULTIBOOT_INFO_MEM_MAP = 0x40
    MULTIBOOT_INFO_BOOT_LOADER_NAME = 0x200
    MULTIBOOT_INFO_FRAMEBUFFER_INFO = 0x1000


multiboot_info = Struct(
    "flags" / Int32ul,
    "mem_lower" / Int32ul,
    "mem_upper" / Int32ul,
    "boot_device" / Int32ul,
    "cmdline" / Int32ul,
    "mods_count" / Int32ul,
    "mods_addr" / Int32ul,
    "syms" / Int32ul[4],
    "mmap_length" / Int32ul,
    "mmap_addr" / Int32ul,
    "drives_length" / Int32ul,
    "drives_addr" / Int32ul,
    "config_table" / Int32ul,
    "boot_loader_name" / Int32ul,
    "apm_table" / Int32ul,
    "vbe_control_info" / Int32ul,
    "vbe_mode_info" / Int32ul,
    "vbe_mode" / Int16ul,
    "vbe_interface_seg" / Int16ul,
    "vbe_interface_off" / Int16ul,
    "vbe_interface_len" / Int16ul,
    "framebuffer_addr" / Int64ul,
    "framebuffer_pitch" / Int32ul,
    "framebuffer_width" / Int32ul,
    "framebuffer_height" / Int32ul,
    "framebuffer_bpp_type" / Int16ul,
    "color_info" / Int16ul[3],
)

multiboot_module = Struct(
    "mod_start" / Int32ul, "mod_end" / Int32ul, "cmdline" / Int32ul, "pad" / Int32ul
)

multiboot_mmap_entry = Struct("size" / Int32ul, "addr" / Int64ul, "len" / Int64ul, "type" / Int32ul)
"""`size` does not count itself: 20."""


class MemoryType(IntEnum):
    """Type of an entry of the memory map."""

    MULTIBOOT_MEMORY_AVAILABLE = 1
    MULTIBOOT_MEMORY_RESERVED = 2
    MULTIBOOT_MEMORY_ACPI_RECLAIMABLE = 3
    MULTIBOOT_MEMORY_NVS = 4
    MULTIBOOT_MEMORY_BADRAM = 5


multiboot2_header = Struct(
    "magic" / Int32ul, "architecture" / Int32ul, "header_length" / Int32ul, "checksum" / Int32ul
)

multiboot2_header_tag = Struct("type" / Int16ul, "flags" / Int16ul, "size" / Int32ul)
HEADER_TAG_OPTIONAL = 1


class HeaderTag(IntEnum):
    """Tags of the header: what the image requests."""

    END = 0
    INFORMATION_REQUEST = 1
    ADDRESS = 2
    ENTRY_ADDRESS = 3
    CONSOLE_FLAGS = 4
    FRAMEBUFFER = 5
    MODULE_ALIGN = 6
    EFI_BS = 7
    ENTRY_ADDRESS_EFI32 = 8
    ENTRY_ADDRESS_EFI64 = 9
    RELOCATABLE = 10


address_tag = Struct(
    "header_addr" / Int32ul,
    "load_addr" / Int32ul,
    "load_end_addr" / Int32ul,
    "bss_end_addr" / Int32ul,
)
relocatable_tag = Struct(
    "min_addr" / Int32ul, "max_addr" / Int32ul, "align" / Int32ul, "preference" / Int32ul
)


class Preference(IntEnum):
    """Where in its range a relocatable image prefers to be."""

    NONE = 0
    LOWEST = 1
    HIGHEST = 2


class InfoTag(IntEnum):
    """Tags of the boot information, from the loader."""

    END = 0
    CMDLINE = 1
    BOOT_LOADER_NAME = 2
    MODULE = 3
    BASIC_MEMINFO = 4
    MMAP = 6
    FRAMEBUFFER = 8
    ACPI_OLD = 14
    ACPI_NEW = 15
    LOAD_BASE_ADDR = 21


info_head = Struct("total_size" / Int32ul, "reserved" / Int32ul)
info_tag = Struct("type" / Int32ul, "size" / Int32ul)
"""`size` includes this header, but not the padding to MULTIBOOT_TAG_ALIGN."""
mmap_tag = Struct("entry_size" / Int32ul, "entry_version" / Int32ul)
mmap_entry = Struct("addr" / Int64ul, "len" / Int64ul, "type" / Int32ul, "zero" / Int32ul)
meminfo_tag = Struct("mem_lower" / Int32ul, "mem_upper" / Int32ul)
module_tag = Struct("mod_start" / Int32ul, "mod_end" / Int32ul)
framebuffer_tag = Struct(
    "framebuffer_addr" / Int64ul,
    "framebuffer_pitch" / Int32ul,
    "framebuffer_width" / Int32ul,
    "framebuffer_height" / Int32ul,
    "framebuffer_bpp_type" / Int16ul,
    "reserved" / Int16ul,
)


class FramebufferType(IntEnum):
    """The mode of a framebuffer."""

    RGB = 1
    EGA_TEXT = 2
