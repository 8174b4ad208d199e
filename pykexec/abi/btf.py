"""The header of BTF (include/uapi/linux/btf.h). Its types, of which a kernel has more than a
hundred thousand, are read by module struct in dump/types.py."""

from __future__ import annotations

from pykexec.abi.record import Int8ul, Int16ul, Int32ul, Struct

BTF_MAGIC = 0xEB9F

btf_header = Struct(
    "magic" / Int16ul,
    "version" / Int8ul,
    "flags" / Int8ul,
    "hdr_len" / Int32ul,
    "type_off" / Int32ul,
    "type_len" / Int32ul,
    "str_off" / Int32ul,
    "str_len" / Int32ul,
)
"""Offsets are in bytes from the end of the header."""
