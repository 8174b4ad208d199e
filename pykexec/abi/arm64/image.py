"""Headers of a raw Image: Documentation/arch/arm64/booting.rst and
Documentation/arch/riscv/boot-image-header.rst. Both have 64 bytes."""

from __future__ import annotations

from enum import IntFlag

from pykexec.abi.record import Bytes, Int32ul, Int64ul, Struct

ARM64_MAGIC = b"ARM\x64"
ARM64_MAGIC_AT = 56

arm64_header = Struct(
    "code0" / Int32ul,
    "code1" / Int32ul,
    "text_offset" / Int64ul,
    "image_size" / Int64ul,
    "flags" / Int64ul,
    "res2" / Int64ul,
    "res3" / Int64ul,
    "res4" / Int64ul,
    "magic" / Bytes(4),
    "res5" / Int32ul,
)


class Arm64Flag(IntFlag):
    """Bits of arm64_header.flags."""

    BIG_ENDIAN = 0x1
    ANYWHERE = 0x8
    """Any 2 MiB aligned base; without it, near the start of RAM."""


PAGE_SIZES = (None, 4 << 10, 16 << 10, 64 << 10)
"""In bytes, by bits 1 and 2 of the flags; None is "unspecified"."""

RISCV_MAGIC = b"RSC\x05"
RISCV_MAGIC_AT = 56

riscv_header = Struct(
    "code0" / Int32ul,
    "code1" / Int32ul,
    "text_offset" / Int64ul,
    "image_size" / Int64ul,
    "flags" / Int64ul,
    "version" / Int32ul,
    "res1" / Int32ul,
    "res2" / Int64ul,
    "magic" / Bytes(8),
    "magic2" / Bytes(4),
    "res3" / Int32ul,
)
