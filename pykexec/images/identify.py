"""Which image type a file is: the first of IMAGE_TYPES that takes it, whatever it is
packed in."""

from __future__ import annotations

import os
from dataclasses import replace

from pykexec.errors import UsageError
from pykexec.images import (
    bzimage,
    bzimage32,
    elf,
    foreign,
    multiboot,
    uimage,
    uki,
    vmlinux,
    zboot,
)
from pykexec.images.compression import MAX_KEPT, file_codec, unpack
from pykexec.images.contents import OpenFile, UnreadableFile
from pykexec.images.initrd import looks_like_initrd
from pykexec.images.kernel_image import ImageType, Inside, KernelImage, NotAnImage

IMAGE_TYPES: tuple[ImageType, ...] = (
    multiboot.MULTIBOOT2,
    vmlinux.VMLINUX,
    vmlinux.VMLINUX_I386,
    multiboot.MULTIBOOT,
    elf.ELF_X86_64,
    elf.ELF_X86,
    bzimage.BZIMAGE64,
    bzimage32.BZIMAGE,
    foreign.BEOBOOT,
    foreign.NBI,
    uki.UKI,
    zboot.ZBOOT,
    uimage.UIMAGE,
    foreign.ARM64_IMAGE,
    foreign.RISCV_IMAGE,
)
"""In the order of kexec-tools: what carries a stronger mark comes first."""

MAX_FILE = 1 << 30
"""Bytes; all of them are read for the digest, and a sparse file can claim any number."""
MAX_DEPTH = 3
"""Images inside images: a UKI in a gzip file has a compressed kernel at most."""


def identify(path: str | os.PathLike[str], type_name: str | None = None) -> KernelImage:
    """Parse `path`, as `type_name` if that is given.

    Raises NotAnImage with the reason of each type, UnreadableFile, BadCompression,
    MissingCodec, or UsageError for a type that does not exist.
    """
    types = tuple(kind for kind in IMAGE_TYPES if type_name in (None, kind.name))
    if not types:
        known = ", ".join(kind.name for kind in IMAGE_TYPES)
        raise UsageError(f"no image type {type_name!r}", hint=f"there are: {known}")
    file = OpenFile(path)
    if not file.size:
        raise UnreadableFile(
            f"{file.path}: an empty file is no kernel image", hint="install that kernel again"
        )
    if file.size > MAX_FILE:
        raise NotAnImage(
            f"{file.path}: {file.size:#x} bytes, a kernel has at most {MAX_FILE:#x}",
            hint="a kernel is a file as /boot/vmlinuz is; a disk or a dump is none",
        )
    return replace(parse(file, types), file=file.span(0, file.size))


def parse(
    file: OpenFile, types: tuple[ImageType, ...], depth: int = 0, room: int = MAX_KEPT
) -> KernelImage:
    """The image in a file, or in what the file holds; at most `room` bytes are unpacked."""
    codec = file_codec(file)
    if codec:
        if depth == MAX_DEPTH:
            raise packed_too_often(file)
        inner = unpack(file, codec, room)
        image = parse(inner, types, depth + 1, room - inner.size)
        return replace(image, wrapped=(codec.name, *image.wrapped))
    reasons: list[str] = []
    for kind in types:
        found = kind.parse(file)
        if isinstance(found, KernelImage):
            return replace(found, inner=file)
        if isinstance(found, Inside):
            return parse_inside(found, depth, room)
        if found.close:
            article = "an" if kind.name[0] in "ae" else "a"
            message = f"{file.path}: not {article} {kind.name}: {found.why}"
            hint = "it is damaged, or of another type (--type)"
            raise NotAnImage(message, hint=hint, type=kind.name)
        reasons.append(f"{kind.name}: {found.why}")
    hint = "; ".join(reasons)
    if looks_like_initrd(file):
        hint = "it looks like an initrd, which is for --initrd"
    raise NotAnImage(f"{file.path}: not a kernel image of any known type", hint=hint)


def packed_too_often(file: OpenFile) -> NotAnImage:
    return NotAnImage(
        f"{file.path}: packed more than {MAX_DEPTH} times over",
        hint="unpack it, and give the file that comes out",
    )


def parse_inside(found: Inside, depth: int, room: int) -> KernelImage:
    """The image in a container, with what the container brings along."""
    if depth == MAX_DEPTH:
        raise packed_too_often(found.file)
    image = parse(found.file, IMAGE_TYPES, depth + 1, room)
    return replace(
        image,
        type=found.type or image.type,
        version=image.version or found.version,
        wrapped=(found.how, *image.wrapped),
        implied=found.implied if found.type else image.implied,
    )
