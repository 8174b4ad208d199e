"""Finds the image type of a file: the first of IMAGE_TYPES that accepts it, also inside compression
and containers."""

from __future__ import annotations

import os
from dataclasses import replace

from pykexec.errors import UsageError
from pykexec.images import elf, foreign, uimage, uki, zboot
from pykexec.images.arm64 import image
from pykexec.images.compression import MAX_KEPT, file_codec, unpack
from pykexec.images.contents import OpenFile, UnreadableFile
from pykexec.images.kernel_image import ImageType, Inside, KernelImage, NotAnImage
from pykexec.images.refusal import Tried, refusal
from pykexec.images.what_is_it import Role, what_is_it
from pykexec.images.x86 import bzimage, bzimage32, multiboot, vmlinux
from pykexec.remedies import Use, Wish

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
    image.ARM64_IMAGE,
    foreign.RISCV_IMAGE,
)
"""In the order of kexec-tools: types with a stronger magic come first."""

MAX_FILE = 1 << 30
"""Bytes; all of them are read for the digest, and a sparse file can claim any size."""
MAX_DEPTH = 3
"""Levels of images inside images: at most a compressed kernel in a UKI in a gzip file."""


def identify(
    path: str | os.PathLike[str], type_name: str | None = None, profile: int | None = None
) -> KernelImage:
    """Parse `path`, as `type_name` if that is given; `profile` selects a profile of a UKI.

    Raises NotAnImage or UnservedImage with the reason of each type in `details`,
    UnreadableFile, BadCompression, MissingCodec, or UsageError for a type or a profile that
    does not exist.
    """
    every = _types_with(profile)
    types = tuple(kind for kind in every if type_name in (None, kind.name))
    if not types:
        known = ", ".join(kind.name for kind in IMAGE_TYPES)
        raise UsageError(f"unknown image type {type_name!r}", hint=f"known types: {known}")
    file = OpenFile(path)
    if not file.size:
        raise UnreadableFile(
            f"{file.path}: a kernel image cannot be an empty file", hint="reinstall the kernel"
        )
    if file.size > MAX_FILE:
        seen = what_is_it(file)
        is_a = f"; it is {seen.what}" if seen and seen.role is not Role.KERNEL else ""
        raise NotAnImage(
            f"{file.path}: {file.size:#x} bytes; a kernel has at most {MAX_FILE:#x}{is_a}",
            hint="use a kernel file such as /boot/vmlinuz, not a disk or a dump",
            path=str(file.path),
        )
    image = parse(file, types, every=every)
    if profile is not None and image.type != uki.UKI.name:
        raise UsageError(
            f"{file.path} is of type {image.type}, and has no profiles",
            hint=Use(Wish.PROFILE, rest=" with a unified kernel image (UKI)"),
        )
    return replace(image, file=file.span(0, file.size))


def _types_with(profile: int | None) -> tuple[ImageType, ...]:
    """All types, with a UKI type that selects this profile."""
    if profile is None:
        return IMAGE_TYPES
    return tuple(uki.of_profile(profile) if kind is uki.UKI else kind for kind in IMAGE_TYPES)


def parse(
    file: OpenFile,
    types: tuple[ImageType, ...],
    packed: tuple[str, ...] = (),
    room: int = MAX_KEPT,
    every: tuple[ImageType, ...] = IMAGE_TYPES,
) -> KernelImage:
    """The image in a file, or inside of a container; at most `room` bytes are unpacked. The
    contents of a container may be of any type in `every`. `packed` names the containers around the
    file, outermost first."""
    codec = file_codec(file)
    if codec:
        if len(packed) == MAX_DEPTH:
            raise _packed_too_often(file)
        inner = unpack(file, codec, room)
        image = parse(inner, types, (*packed, codec.name), room - inner.size, every)
        return replace(image, wrapped=(codec.name, *image.wrapped))
    tried: list[Tried] = []
    for kind in types:
        found = kind.parse(file)
        if isinstance(found, KernelImage):
            return replace(found, inner=file)
        if isinstance(found, Inside):
            return _parse_inside(found, packed, room, every)
        tried.append(Tried(kind.name, found))
        if found.close or found.unserved:
            break
    raise refusal(file, tried, packed)


def _packed_too_often(file: OpenFile) -> NotAnImage:
    return NotAnImage(
        f"{file.path}: nested more than {MAX_DEPTH} levels deep",
        hint="unpack it, and use the unpacked file",
        path=str(file.path),
    )


def _parse_inside(
    found: Inside, packed: tuple[str, ...], room: int, every: tuple[ImageType, ...]
) -> KernelImage:
    """The image in a container, with what the container implies."""
    if len(packed) == MAX_DEPTH:
        raise _packed_too_often(found.file)
    image = parse(found.file, every, (*packed, found.how), room, every)
    return replace(
        image,
        type=found.type or image.type,
        version=image.version or found.version,
        wrapped=(found.how, *image.wrapped),
        implied=found.implied if found.type else image.implied,
        profiles=found.profiles or image.profiles,
        profile=image.profile if found.profile is None else found.profile,
    )
