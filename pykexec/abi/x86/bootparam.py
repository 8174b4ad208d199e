"""arch/x86/include/uapi/asm/bootparam.h and setup_data.h, protocol 2.15.

Offsets in the file's first sectors and in boot_params (the zero page) are the same.
Documentation/arch/x86/boot.rst explains each field.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

from pykexec.abi.record import Bytes, Const, Int8ul, Int16ul, Int32ul, Int64ul, Struct

SETUP_HEADER_OFFSET = 0x1F1
BOOT_FLAG = 0xAA55
HDRS_MAGIC = b"HdrS"
SETUP_HEADER_MAX = 0x290 - SETUP_HEADER_OFFSET
"""boot_params has edd_mbr_sig_buffer at 0x290: the header ends before it."""

E820_MAX_ENTRIES_ZEROPAGE = 128
BOOT_PARAMS_SIZE = 4096

LOADER_TYPE_KEXEC = 0xD0
"""type_of_loader of kexec, as set by bzImage64_load; with 0 the kernel would ignore its initrd."""


VID_MODE_NORMAL = 0xFFFF
"""vid_mode: keep the screen as it is (boot.rst)."""


class LoadFlag(IntFlag):
    """loadflags."""

    LOADED_HIGH = 0x01
    KASLR_FLAG = 0x02
    QUIET_FLAG = 0x20
    KEEP_SEGMENTS = 0x40
    CAN_USE_HEAP = 0x80


class Xlf(IntFlag):
    """xloadflags."""

    XLF_KERNEL_64 = 0x01
    XLF_CAN_BE_LOADED_ABOVE_4G = 0x02
    XLF_EFI_HANDOVER_32 = 0x04
    XLF_EFI_HANDOVER_64 = 0x08
    XLF_EFI_KEXEC = 0x10
    XLF_5LEVEL = 0x20
    XLF_5LEVEL_ENABLED = 0x40
    XLF_MEM_ENCRYPTION = 0x80


class E820Type(IntEnum):
    """include/asm/e820/types.h."""

    E820_TYPE_RAM = 1
    E820_TYPE_RESERVED = 2
    E820_TYPE_ACPI = 3
    E820_TYPE_NVS = 4
    E820_TYPE_UNUSABLE = 5
    E820_TYPE_PMEM = 7
    E820_TYPE_PRAM = 12
    E820_TYPE_SOFT_RESERVED = 0xEFFFFFFF


class SetupType(IntEnum):
    """Type of a setup_data node."""

    SETUP_E820_EXT = 1
    SETUP_DTB = 2
    SETUP_PCI = 3
    SETUP_EFI = 4
    SETUP_RNG_SEED = 9


setup_header = Struct(
    "setup_sects" / Int8ul,
    "root_flags" / Int16ul,
    "syssize" / Int32ul,
    "ram_size" / Int16ul,
    "vid_mode" / Int16ul,
    "root_dev" / Int16ul,
    "boot_flag" / Int16ul,
    "jump" / Bytes(2),
    "header" / Bytes(4),
    "version" / Int16ul,
    "realmode_swtch" / Int32ul,
    "start_sys_seg" / Int16ul,
    "kernel_version" / Int16ul,
    "type_of_loader" / Int8ul,
    "loadflags" / Int8ul,
    "setup_move_size" / Int16ul,
    "code32_start" / Int32ul,
    "ramdisk_image" / Int32ul,
    "ramdisk_size" / Int32ul,
    "bootsect_kludge" / Int32ul,
    "heap_end_ptr" / Int16ul,
    "ext_loader_ver" / Int8ul,
    "ext_loader_type" / Int8ul,
    "cmd_line_ptr" / Int32ul,
    "initrd_addr_max" / Int32ul,
    "kernel_alignment" / Int32ul,
    "relocatable_kernel" / Int8ul,
    "min_alignment" / Int8ul,
    "xloadflags" / Int16ul,
    "cmdline_size" / Int32ul,
    "hardware_subarch" / Int32ul,
    "hardware_subarch_data" / Int64ul,
    "payload_offset" / Int32ul,
    "payload_length" / Int32ul,
    "setup_data" / Int64ul,
    "pref_address" / Int64ul,
    "init_size" / Int32ul,
    "handover_offset" / Int32ul,
)
"""struct setup_header up to protocol 2.12, at SETUP_HEADER_OFFSET."""

screen_info = Struct(
    "orig_x" / Int8ul,
    "orig_y" / Int8ul,
    "ext_mem_k" / Int16ul,
    "orig_video_page" / Int16ul,
    "orig_video_mode" / Int8ul,
    "orig_video_cols" / Int8ul,
    "flags" / Int8ul,
    "unused2" / Int8ul,
    "orig_video_ega_bx" / Int16ul,
    "unused3" / Int16ul,
    "orig_video_lines" / Int8ul,
    "orig_video_isVGA" / Int8ul,
    "orig_video_points" / Int16ul,
    "lfb_width" / Int16ul,
    "lfb_height" / Int16ul,
    "lfb_depth" / Int16ul,
    "lfb_base" / Int32ul,
    "lfb_size" / Int32ul,
    "cl_magic" / Int16ul,
    "cl_offset" / Int16ul,
    "lfb_linelength" / Int16ul,
    "red_size" / Int8ul,
    "red_pos" / Int8ul,
    "green_size" / Int8ul,
    "green_pos" / Int8ul,
    "blue_size" / Int8ul,
    "blue_pos" / Int8ul,
    "rsvd_size" / Int8ul,
    "rsvd_pos" / Int8ul,
    "vesapm_seg" / Int16ul,
    "vesapm_off" / Int16ul,
    "pages" / Int16ul,
    "vesa_attributes" / Int16ul,
    "capabilities" / Int32ul,
    "ext_lfb_base" / Int32ul,
    "_reserved" / Bytes(2),
)
"""include/uapi/linux/screen_info.h, the first 64 bytes of boot_params."""
VIDEO_CAPABILITY_64BIT_BASE = 2


class VideoType(IntEnum):
    """orig_video_isVGA."""

    VIDEO_TYPE_TEXT = 1
    """What every loader writes for VGA text."""
    VIDEO_TYPE_VGAC = 0x22
    VIDEO_TYPE_VLFB = 0x23
    VIDEO_TYPE_EFI = 0x70


e820_entry = Struct("addr" / Int64ul, "size" / Int64ul, "type" / Int32ul)

efi_info = Struct(
    "efi_loader_signature" / Bytes(4),
    "efi_systab" / Int32ul,
    "efi_memdesc_size" / Int32ul,
    "efi_memdesc_version" / Int32ul,
    "efi_memmap" / Int32ul,
    "efi_memmap_size" / Int32ul,
    "efi_systab_hi" / Int32ul,
    "efi_memmap_hi" / Int32ul,
)
"""struct efi_info, at BootParamsField.EFI_INFO."""

efi_setup_data = Struct(
    "fw_vendor" / Int64ul,
    "_unused" / Const(0, Int64ul),
    "tables" / Int64ul,
    "smbios" / Int64ul,
    "_reserved" / Const(bytes(64)),
)
"""struct efi_setup_data, the bytes of a SETUP_EFI node (asm/efi.h)."""

setup_data = Struct("next" / Int64ul, "type" / Int32ul, "len" / Int32ul)


class BootParamsField(IntEnum):
    """Offsets in struct boot_params of the fields that a loader sets."""

    SCREEN_INFO = 0x000
    ACPI_RSDP_ADDR = 0x070
    EXT_RAMDISK_IMAGE = 0x0C0
    EXT_RAMDISK_SIZE = 0x0C4
    EXT_CMD_LINE_PTR = 0x0C8
    EFI_INFO = 0x1C0
    ALT_MEM_K = 0x1E0
    E820_ENTRIES = 0x1E8
    SENTINEL = 0x1EF
    HDR = SETUP_HEADER_OFFSET
    E820_TABLE = 0x2D0
    EDDBUF = 0xD00


boot_params = Struct(
    "screen_info" / Bytes(0x40),
    "_apm_tboot" / Bytes(0x30),
    "acpi_rsdp_addr" / Int64ul,
    "_to_c0" / Bytes(0x48),
    "ext_ramdisk_image" / Int32ul,
    "ext_ramdisk_size" / Int32ul,
    "ext_cmd_line_ptr" / Int32ul,
    "_to_1c0" / Bytes(0xF4),
    "efi_info" / Bytes(0x20),
    "alt_mem_k" / Int32ul,
    "scratch" / Int32ul,
    "e820_entries" / Int8ul,
    "eddbuf_entries" / Int8ul,
    "edd_mbr_sig_buf_entries" / Int8ul,
    "kbd_status" / Int8ul,
    "secure_boot" / Int8ul,
    "_pad5" / Bytes(2),
    "sentinel" / Const(b"\0"),
    "_pad6" / Bytes(1),
    "hdr" / Bytes(SETUP_HEADER_MAX),
    "edd_mbr_sig_buffer" / Bytes(0x40),
    "e820_table" / Bytes(20 * E820_MAX_ENTRIES_ZEROPAGE),
    "_pad8" / Bytes(0x30),
    "eddbuf" / Bytes(6 * 82),
    "_pad9" / Bytes(0x114),
)
"""struct boot_params, with header and tables as bytes, so that each is declared once."""
