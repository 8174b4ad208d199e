"""include/linux/efi.h, as far as needed to pass EFI from one kernel to the next."""

from __future__ import annotations

from pykexec.abi.record import Const, Int32ul, Int64ul, Struct

EFI64_LOADER_SIGNATURE = b"EL64"
EFI_MEMDESC_VERSION = 1

efi_memory_desc = Struct(
    "type" / Int32ul,
    "_pad" / Const(0, Int32ul),
    "phys_addr" / Int64ul,
    "virt_addr" / Int64ul,
    "num_pages" / Int64ul,
    "attribute" / Int64ul,
)
"""efi_memory_desc_t; firmware may use larger entries (efi_memdesc_size)."""
