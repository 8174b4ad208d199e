"""One file for each image type, in the order of IMAGE_TYPES; test_identify.py fails for a type
without one."""

from __future__ import annotations

from tests.builders import (
    make_arm64_image,
    make_bzimage,
    make_elf,
    make_multiboot,
    make_riscv_image,
    make_uimage,
    make_uki,
    make_vmlinux,
    make_zboot,
    multiboot2_header,
)

FIXTURES: dict[str, bytes] = {
    "multiboot2": make_multiboot(multiboot2_header()),
    "vmlinux": make_vmlinux(),
    "vmlinux-i386": make_vmlinux(bits=32),
    "multiboot": make_multiboot(),
    "elf-x86_64": make_elf(),
    "elf-x86": make_elf(bits=32, machine=3),
    "bzImage64": make_bzimage(),
    "bzImage": make_bzimage(xloadflags=0),
    "beoboot": b"BeoB" + bytes(0x400),
    "nbi": b"\x36\x13\x03\x1b" + bytes(0x400),
    "uki": make_uki(
        extra=(
            (b".profile", b"ID=main\nTITLE='Normal'"),
            (b".profile", b"ID=reset"),
            (b".cmdline", b"reset"),
        )
    ),
    "zboot": make_zboot(),
    "uImage": make_uimage(),
    "arm64-image": make_arm64_image(),
    "riscv-image": make_riscv_image(),
}
