"""vmlinux, the Linux kernel as linked: started with the Linux boot protocol, without a wrapper.

startup_64 finds how far it was moved and adjusts its own page tables, in steps of 2 MiB
(arch/x86/kernel/head64.c:__startup_64), so a vmlinux of x86_64 can be a capture kernel in any
window. startup_32 of i386 runs only where it was linked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.abi.elf import EM_386, EM_486, EM_X86_64
from pykexec.abi.x86.bootparam import BOOT_FLAG, HDRS_MAGIC, LoadFlag, Xlf, setup_header
from pykexec.abi.x86.x86_64 import START_KERNEL_MAP
from pykexec.images.banner import banner
from pykexec.images.elf_file import ElfFile, read_elf
from pykexec.images.elf_parts import flat, load_parts
from pykexec.images.kernel_image import (
    Boot,
    ImageType,
    KernelImage,
    Linux32Boot,
    LinuxX86Boot,
    LoadPart,
    Refused,
)

if TYPE_CHECKING:
    from pykexec.images.contents import OpenFile

PAGE_OFFSETS = (0xC0000000, 0xB0000000, 0x80000000, 0x78000000, 0x40000000)
"""CONFIG_PAGE_OFFSET of i386, by CONFIG_VMSPLIT_*."""
MARKS = frozenset(
    (".init.text", "__ksymtab", "__ksymtab_strings", ".data..percpu", ".data.percpu", "__param")
)
"""Sections that only Linux has. A kernel without section headers still has notes."""
NOTE_OWNERS = frozenset(("Linux",))
XEN_ELFNOTE_GUEST_OS = 6
ALIGNMENT = 2 << 20
PROTOCOL = 0x20F
CMDLINE_SIZE = 2047
"""COMMAND_LINE_SIZE of x86, minus the NUL."""
INITRD_ADDR_MAX = 0x7FFFFFFF
INITRD_ADDR_MAX_32 = 0x37FFFFFF
"""DEFAULT_INITRD_ADDR_MAX of kexec-tools: lowmem of an i386 kernel."""


def _parse_64(file: OpenFile) -> KernelImage | Refused:
    """vmlinux of x86_64."""
    return _parse(file, "vmlinux", (EM_X86_64,), (START_KERNEL_MAP,))


def _parse_32(file: OpenFile) -> KernelImage | Refused:
    """vmlinux of i386."""
    return _parse(file, "vmlinux-i386", (EM_386, EM_486), PAGE_OFFSETS)


def _parse(
    file: OpenFile, name: str, machines: tuple[int, ...], bases: tuple[int, ...]
) -> KernelImage | Refused:
    """The image, or why it is not Linux for these machines, linked at one of `bases`."""
    elf = read_elf(file)
    if isinstance(elf, Refused):
        return Refused(elf.why)
    if elf.machine not in machines:
        return Refused(f"ELF machine {elf.machine}, expected {machines[0]}")
    if why := _not_linux(elf, bases):
        return Refused(why)
    parts = load_parts(file, elf)
    if isinstance(parts, Refused):
        return parts
    if not any(elf.entry in part for part in parts):
        return Refused(f"entry {elf.entry:#x} is in no PT_LOAD", close=True)
    payload = flat(parts, parts[0].addr)
    if payload is None:
        return Refused("no PT_LOAD has bytes in the file", close=True)
    boot = _boot_64(elf, parts) if name == "vmlinux" else _boot_32(elf, parts)
    return KernelImage(
        type=name,
        path=str(file.path),
        version=next(
            filter(None, (banner(part.contents) for part in parts if part.contents)), None
        ),
        payload=payload,
        boot=boot,
    )


def _not_linux(elf: ElfFile, bases: tuple[int, ...]) -> str | None:
    """Why it is not Linux: Linux has its text linked at one of `bases`, and a mark of Linux."""
    loads = elf.loads
    if not loads:
        return "it has no PT_LOAD with memory"
    first = loads[0]
    if first.vaddr - first.paddr not in bases:
        return (
            f"not Linux: its text is linked {first.vaddr - first.paddr:#x} above its physical "
            f"address, expected {' or '.join(hex(base) for base in bases)}"
        )
    if elf.sections & MARKS or any(note.owner in NOTE_OWNERS for note in elf.notes):
        return None
    for note in elf.notes:
        if note.owner == "Xen" and note.type == XEN_ELFNOTE_GUEST_OS:
            return (
                None
                if note.desc.startswith(b"linux")
                else "its Xen note names another guest operating system"
            )
    return "not Linux: it has none of the notes and sections of Linux"


def _boot_64(elf: ElfFile, parts: tuple[LoadPart, ...]) -> Boot:
    start, size = parts[0].addr, parts[-1].end - parts[0].addr
    xloadflags = Xlf.XLF_KERNEL_64 | Xlf.XLF_CAN_BE_LOADED_ABOVE_4G
    return LinuxX86Boot(
        protocol=PROTOCOL,
        setup_header=_made_header(start, size, xloadflags, INITRD_ADDR_MAX),
        init_size=size,
        kernel_alignment=ALIGNMENT,
        pref_address=start,
        cmdline_size=CMDLINE_SIZE,
        xloadflags=xloadflags,
        relocatable=True,
        entry_offset=elf.entry - start,
        lowest=True,
    )


def _boot_32(elf: ElfFile, parts: tuple[LoadPart, ...]) -> Boot:
    start, size = parts[0].addr, parts[-1].end - parts[0].addr
    return Linux32Boot(
        protocol=PROTOCOL,
        setup_header=_made_header(start, size, 0, INITRD_ADDR_MAX_32),
        memory=size,
        kernel_alignment=0x1000,
        load_addr=start,
        relocatable=False,
        cmdline_size=CMDLINE_SIZE,
        initrd_addr_max=INITRD_ADDR_MAX_32,
        entry_offset=elf.entry - start,
    )


def _made_header(start: int, size: int, xloadflags: int, initrd_addr_max: int) -> bytes:
    """The setup header that a bzImage of this kernel would have."""
    fields = setup_header.parse(bytes(setup_header.sizeof()))
    fields.boot_flag, fields.header, fields.version = BOOT_FLAG, HDRS_MAGIC, PROTOCOL
    fields.jump = bytes((0xEB, 0x66))
    fields.loadflags, fields.xloadflags = LoadFlag.LOADED_HIGH, xloadflags
    fields.initrd_addr_max, fields.cmdline_size = initrd_addr_max, CMDLINE_SIZE
    fields.kernel_alignment, fields.relocatable_kernel = ALIGNMENT, int(bool(xloadflags))
    fields.min_alignment = ALIGNMENT.bit_length() - 1
    fields.pref_address, fields.init_size = start, min(size, (1 << 32) - 1)
    header: bytes = setup_header.build(fields)
    return header


def _version(parts: tuple[LoadPart, ...]) -> str | None:
    found = (banner(part.contents) for part in parts if part.contents)
    return next(filter(None, found), None)


VMLINUX = ImageType("vmlinux", _parse_64)
VMLINUX_I386 = ImageType("vmlinux-i386", _parse_32)
