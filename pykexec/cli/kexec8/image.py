"""The image by kexec(8)'s type names, and how to start an ELF file."""

from __future__ import annotations

from pathlib import Path

from pykexec.errors import KexecError, UsageError
from pykexec.images.identify import IMAGE_TYPES, identify
from pykexec.images.kernel_image import ElfBoot, KernelImage, NotAnImage

TYPES = {
    "multiboot2-x86": ("multiboot2",),
    "elf-x86_64": ("vmlinux", "elf-x86_64"),
    "multiboot-x86": ("multiboot",),
    "elf-x86": ("vmlinux-i386", "elf-x86"),
    "beoboot-x86": ("beoboot",),
    "nbi-x86": ("nbi",),
    **{
        kind.name: (kind.name,)
        for kind in IMAGE_TYPES
        if kind.name not in ("elf-x86_64", "elf-x86")
    },
}
"""For each name of kexec-tools, the names of pykexec, the last of which is forced. kexec-tools
calls a Linux kernel in an ELF file an ELF file, too."""

PLAIN_ELF = {"vmlinux": "elf-x86_64", "vmlinux-i386": "elf-x86"}


class UnknownType(UsageError):
    """A --type that does not exist."""

    exit_status = 255


class WrongType(KexecError):
    """A --type that the file is not of."""

    exit_status = 255


def find_image(path: Path, type_name: str | None, args: str | None) -> KernelImage:
    """`args` is "linux", "elf", "none" or None for --args-*. Raises UnknownType, WrongType,
    UsageError, NotAnImage, UnreadableFile."""
    image = identify(path)
    if type_name is not None:
        image = _of_type(image, path, type_name)
    if args in ("elf", "none") and image.type in PLAIN_ELF:
        return identify(path, PLAIN_ELF[image.type])
    if args == "linux" and isinstance(image.boot, ElfBoot):
        raise UsageError(
            f"--args-linux: {path} is of type {image.type}, not a Linux kernel",
            hint="use --args-elf or --args-none",
        )
    return image


def _of_type(image: KernelImage, path: Path, type_name: str) -> KernelImage:
    if type_name not in TYPES:
        known = f"known types: {', '.join(sorted(TYPES))}"
        raise UnknownType(
            f"Unsupported kernel type {type_name}",
            hint=known if type_name else f"--type is empty; {known}",
        )
    names = TYPES[type_name]
    if image.type in names:
        return image
    try:
        return identify(path, names[-1])
    except NotAnImage as error:
        raise WrongType(
            f"Wrong file type {type_name}, file matches type {image.type}", hint=error.message
        ) from error
