"""Any other ELF file for x86: its PT_LOADs by physical address, started at its entry with the ELF
boot notes that kexec-tools and etherboot pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.abi.elf import (
    EM_386,
    EM_486,
    EM_NAMES,
    EM_X86_64,
    ET_CORE,
    ET_DYN,
    ET_EXEC,
    NT_GNU_ABI_TAG,
    PT_INTERP,
)
from pykexec.images.elf_file import ElfFile, read_elf
from pykexec.images.elf_parts import load_parts
from pykexec.images.kernel_image import ElfBoot, ImageType, KernelImage, Refused

if TYPE_CHECKING:
    from pykexec.images.contents import OpenFile


def _parse_64(file: OpenFile) -> KernelImage | Refused:
    return _parse(file, "elf-x86_64", (EM_X86_64,), 64)


def _parse_32(file: OpenFile) -> KernelImage | Refused:
    return _parse(file, "elf-x86", (EM_386, EM_486), 32)


def _parse(
    file: OpenFile, name: str, machines: tuple[int, ...], bits: int
) -> KernelImage | Refused:
    """The image, or why it is not an executable of this class for one of these machines."""
    elf = read_elf(file)
    if isinstance(elf, Refused):
        return elf
    if elf.type == ET_CORE:
        return Refused("it is a core file, not an executable", close=True)
    if elf.machine not in machines:
        known = EM_NAMES.get(elf.machine)
        return Refused(
            f"ELF machine {elf.machine}{f' ({known})' if known else ''}, expected {machines[0]}"
        )
    if elf.bits != bits:
        return Refused(f"it is a {elf.bits}-bit ELF file, expected {bits}-bit", close=True)
    if elf.type not in (ET_EXEC, ET_DYN):
        return Refused(f"ELF type {elf.type}, expected an executable", close=True)
    if why := program(elf):
        return Refused(f"it is a user-space program: {why}", close=True)
    if elf.type == ET_DYN and not elf.entry:
        return Refused("it is a shared library: it has no entry", close=True)
    parts = load_parts(file, elf)
    if isinstance(parts, Refused):
        return parts
    if not any(elf.entry in part for part in parts):
        return Refused(f"entry {elf.entry:#x} is in no PT_LOAD by physical address", close=True)
    return KernelImage(
        type=name,
        path=str(file.path),
        version=None,
        payload=file.span(0, file.size),
        boot=ElfBoot(bits, elf.entry, parts, elf.type == ET_DYN),
    )


def program(elf: ElfFile) -> str | None:
    """What shows that a file is a Linux program and not an image for a boot loader."""
    if any(item.type == PT_INTERP for item in elf.segments):
        return "it has a PT_INTERP"
    tags = (note for note in elf.notes if note.owner == "GNU" and note.type == NT_GNU_ABI_TAG)
    if any(note.desc[:4] == bytes(4) for note in tags):
        return "its NT_GNU_ABI_TAG says Linux"
    return None


ELF_X86_64 = ImageType("elf-x86_64", _parse_64)
ELF_X86 = ImageType("elf-x86", _parse_32)
