"""U-Boot's legacy image header: include/image.h, struct legacy_img_hdr. Big-endian."""

from __future__ import annotations

from pykexec.abi.record import Bytes, Int8ub, Int32ub, Struct

IH_MAGIC = 0x27051956

legacy_img_hdr = Struct(
    "ih_magic" / Int32ub,
    "ih_hcrc" / Int32ub,
    "ih_time" / Int32ub,
    "ih_size" / Int32ub,
    "ih_load" / Int32ub,
    "ih_ep" / Int32ub,
    "ih_dcrc" / Int32ub,
    "ih_os" / Int8ub,
    "ih_arch" / Int8ub,
    "ih_type" / Int8ub,
    "ih_comp" / Int8ub,
    "ih_name" / Bytes(32),
)
HCRC_AT = 4

IH_OS_LINUX = 5
IH_TYPE_KERNEL = 2
IH_TYPES = {
    1: "standalone program",
    2: "kernel",
    3: "ramdisk",
    4: "multi-file image",
    5: "firmware",
}
IH_ARCHS = {2: "arm", 3: "i386", 7: "ppc", 8: "s390", 22: "arm64", 24: "x86_64", 26: "riscv64"}
IH_COMPS = {0: "none", 1: "gzip", 2: "bzip2", 3: "lzma", 4: "lzo", 5: "lz4", 6: "zstd"}
