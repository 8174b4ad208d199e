"""Headers of dump files: makedumpfile's diskdump_mod.h and makedumpfile.h, as written on 64-bit
machines. No load reads them, and their module is imported when such a file is opened: importing
construct takes longer than reading a log.
"""

from __future__ import annotations

from construct import Bytes, Int32sl, Int32ul, Int64sb, Int64ul, Padding, Struct

UTSNAME_FIELD = 65
"""Bytes of a text in struct new_utsname, with its NUL."""

new_utsname = Struct(
    "sysname" / Bytes(UTSNAME_FIELD),
    "nodename" / Bytes(UTSNAME_FIELD),
    "release" / Bytes(UTSNAME_FIELD),
    "version" / Bytes(UTSNAME_FIELD),
    "machine" / Bytes(UTSNAME_FIELD),
    "domainname" / Bytes(UTSNAME_FIELD),
)

disk_dump_header = Struct(
    "signature" / Bytes(8),
    "header_version" / Int32sl,
    "utsname" / new_utsname,
    Padding(6),
    "tv_sec" / Int64ul,
    "tv_usec" / Int64ul,
    "status" / Int32ul,
    "block_size" / Int32sl,
    "sub_hdr_size" / Int32sl,
    "bitmap_blocks" / Int32ul,
    "max_mapnr" / Int32ul,
    "total_ram_blocks" / Int32ul,
    "device_blocks" / Int32ul,
    "written_blocks" / Int32ul,
    "current_cpu" / Int32ul,
    "nr_cpus" / Int32sl,
)
"""The first block. sub_hdr_size and bitmap_blocks are in blocks; bitmap_blocks counts both
bitmaps."""

kdump_sub_header = Struct(
    "phys_base" / Int64ul,
    "dump_level" / Int32sl,
    "split" / Int32sl,
    "start_pfn" / Int64ul,
    "end_pfn" / Int64ul,
    "offset_vmcoreinfo" / Int64ul,
    "size_vmcoreinfo" / Int64ul,
    "offset_note" / Int64ul,
    "size_note" / Int64ul,
    "offset_eraseinfo" / Int64ul,
    "size_eraseinfo" / Int64ul,
    "start_pfn_64" / Int64ul,
    "end_pfn_64" / Int64ul,
    "max_mapnr_64" / Int64ul,
)
"""The second block. dump_level exists from header_version 1, split, start_pfn and end_pfn from 2,
vmcoreinfo from 3, note from 4, eraseinfo from 5, and the last three from 6."""

TYPE_FLAT_HEADER, VERSION_FLAT_HEADER = 1, 1

makedumpfile_header = Struct(
    "signature" / Bytes(16),
    "type" / Int64sb,
    "version" / Int64sb,
)
"""The start of a flattened file."""
