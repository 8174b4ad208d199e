"""Identifies a file, for the message if it was given as something else.

For example, for a file that was given as an initrd and is not one:

    known = what_is_it(file)
    if known:
        raise NotAnInitrd(f"{file.path}: not an initrd: it is {known.what}", hint=known.hint)

`known.role` distinguishes a kernel that was given as an initrd from anything else: Role.KERNEL is
what an image type recognizes, valid or damaged, Role.INITRD a cpio archive. `known.hint` is for
somebody who wants a kernel; for a kernel that was given as an initrd, write another hint.

Reads are bounded by HEAD bytes, and by one step of a decoder for a compressed file.
"""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Iterator
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING

from pykexec.abi.arm64.image import ARM64_MAGIC, ARM64_MAGIC_AT, RISCV_MAGIC, RISCV_MAGIC_AT
from pykexec.abi.elf import ELFMAG
from pykexec.abi.pe import MZ_MAGIC, ZBOOT_MAGIC
from pykexec.abi.uimage import IH_ARCHS, IH_MAGIC, IH_TYPE_KERNEL, IH_TYPES
from pykexec.abi.x86.bootparam import HDRS_MAGIC
from pykexec.abi.x86.multiboot import (
    MULTIBOOT2_HEADER_ALIGN,
    MULTIBOOT2_HEADER_MAGIC,
    MULTIBOOT2_SEARCH,
    MULTIBOOT_HEADER_ALIGN,
    MULTIBOOT_HEADER_MAGIC,
    MULTIBOOT_SEARCH,
)
from pykexec.errors import KexecError
from pykexec.frozen import dataclass
from pykexec.images import elf_kind, pe_kind
from pykexec.images.compression import MAX_UNPACKED, file_codec, unpacked
from pykexec.images.cpio import NEWC_MAGICS
from pykexec.images.signatures import COPY_AGAIN, SIGNATURES, TAKE_KERNEL

if TYPE_CHECKING:
    from pykexec.images.contents import OpenFile

HEAD = 0x10080
"""Bytes that are enough to distinguish all kinds: btrfs has its magic at 64 KiB."""
TEXT_SAMPLE = 4096
FDT_MAGIC = b"\xd0\x0d\xfe\xed"
FIT_NODE = b"\0\0\0\x01images\0"
"""FDT_BEGIN_NODE and the name of the node that every FIT image has near its beginning."""
OLD_CPIO_MAGICS = (b"070707", b"\xc7\x71", b"\x71\xc7")
A_KERNEL = "use a kernel file such as /boot/vmlinuz"


class Role(Enum):
    """What a file can be used as."""

    KERNEL = "kernel"
    INITRD = "initrd"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True)
class Identity:
    """`what` with its article, "an ISO 9660 image"; `hint` says what to do if a kernel is
    wanted."""

    what: str
    hint: str
    role: Role = Role.NEITHER


def what_is_it(file: OpenFile) -> Identity | None:
    """None for unknown data. Raises only UnreadableFile, whatever the contents."""
    codec = file_codec(file)
    if codec is None:
        return identity_of(file.read(0, min(HEAD, file.size)))
    pieces = unpacked(str(file.path), file.span(0, file.size), codec, MAX_UNPACKED)
    try:
        inner = identity_of(_first_bytes(pieces))
    except KexecError:
        return Identity(f"data compressed with {codec.name}", "unpack it to find out what it is")
    if inner is None:
        return Identity(f"unknown data compressed with {codec.name}", A_KERNEL)
    return replace(inner, what=f"{inner.what}, compressed with {codec.name}")


def _first_bytes(pieces: Iterator[bytes]) -> bytes:
    """HEAD bytes, or as many as there are."""
    head = b""
    for piece in pieces:
        head += piece[: HEAD - len(head)]
        if len(head) == HEAD:
            break
    return head


def identity_of(head: bytes) -> Identity | None:
    """By the first HEAD bytes of a file, or by all of a shorter one."""
    found = kernel(head) or initrd(head)
    if found:
        return found
    if head.startswith(ELFMAG):
        kind = elf_kind.describe(head)
        return Identity(kind.what, kind.hint, Role.KERNEL if kind.bootable else Role.NEITHER)
    if head.startswith(FDT_MAGIC):
        return _device_tree(head)
    for item in SIGNATURES:
        if head.startswith(item.magic, item.at):
            return Identity(item.what, item.hint)
    if head.startswith(MZ_MAGIC):
        what, hint = pe_kind.describe(head)
        return Identity(what, hint)
    return text(head) or empty(head)


def kernel(head: bytes) -> Identity | None:
    """What an image type recognizes by its magic."""
    uimage = head.startswith(IH_MAGIC.to_bytes(4, "big")) and len(head) >= 64
    if uimage:
        return _uimage_of(head[29], head[30])
    names = {
        "a Linux kernel (bzImage)": head[0x202:0x206] == HDRS_MAGIC,
        "a kernel for arm64 (Image)": head.startswith(ARM64_MAGIC, ARM64_MAGIC_AT),
        "a kernel for riscv (Image)": head.startswith(RISCV_MAGIC, RISCV_MAGIC_AT),
        "a compressed EFI kernel (zboot)": head[:2] == MZ_MAGIC and head[4:8] == ZBOOT_MAGIC,
        "a unified kernel image (UKI)": ".linux" in pe_kind.section_names(head),
        "a multiboot image": _has_multiboot_header(head),
    }
    what = next((name for name, found in names.items() if found), None)
    return (
        Identity(what, "the file is damaged, or was not copied completely", Role.KERNEL)
        if what
        else None
    )


def _uimage_of(arch: int, kind: int) -> Identity:
    machine = IH_ARCHS.get(arch, f"architecture {arch}")
    if kind == IH_TYPE_KERNEL:
        return Identity(f"a kernel for {machine} (uImage)", A_KERNEL, Role.KERNEL)
    name = IH_TYPES.get(kind, f"image of type {kind}")
    article = "an" if name[0] in "aeio" else "a"
    return Identity(
        f"{article} {name} for {machine} with a U-Boot header (uImage)",
        "use dumpimage -p 0 -o OUT FILE to extract it; load a ramdisk as an initrd",
    )


def _has_multiboot_header(head: bytes) -> bool:
    """Whether there is a magic where a header may be, with three or four words that add up to
    zero."""
    return _has_header(
        head[:MULTIBOOT_SEARCH], MULTIBOOT_HEADER_MAGIC, MULTIBOOT_HEADER_ALIGN, 3
    ) or _has_header(head[:MULTIBOOT2_SEARCH], MULTIBOOT2_HEADER_MAGIC, MULTIBOOT2_HEADER_ALIGN, 4)


def _has_header(head: bytes, magic: int, align: int, words: int) -> bool:
    at = head.find(magic.to_bytes(4, "little"))
    while 0 <= at <= len(head) - 4 * words:
        found = (int.from_bytes(head[at + 4 * n : at + 4 * n + 4], "little") for n in range(words))
        if at % align == 0 and not sum(found) & 0xFFFFFFFF:
            return True
        at = head.find(magic.to_bytes(4, "little"), at + 1)
    return False


def initrd(head: bytes) -> Identity | None:
    if head.startswith(NEWC_MAGICS):
        return Identity(
            "an initrd (a cpio archive)", "load it as the initrd of a kernel", Role.INITRD
        )
    if head.startswith(OLD_CPIO_MAGICS):
        what = "a cpio archive in an old format, which the kernel cannot unpack"
        return Identity(what, "use cpio -o -H newc to make an initrd")
    return None


def _device_tree(head: bytes) -> Identity:
    if FIT_NODE in head:
        what = "a FIT image (U-Boot's container of kernels and device trees)"
        return Identity(what, f"dumpimage -T flat_dt -p 0 -o OUT FILE: {TAKE_KERNEL}")
    what = "a flattened device tree: a device tree blob, or a FIT image (U-Boot's container)"
    return Identity(what, f"{A_KERNEL}; use dumpimage to extract it from a FIT image")


def text(head: bytes) -> Identity | None:
    """By the first characters, if all of them are printable."""
    try:
        found = getincrementaldecoder("utf-8")().decode(head[:TEXT_SAMPLE])
    except UnicodeDecodeError:
        return None
    if not found or not all(char.isprintable() or char in "\t\n\r\f\x1b\ufeff" for char in found):
        return None
    start = found.lstrip("\ufeff \t\r\n").lower()
    if start.startswith("#!"):
        return Identity("a script", A_KERNEL)
    if start.startswith(("<!doctype html", "<html", "<head", "<body")):
        return Identity("a web page (HTML)", f"the download may have failed: {COPY_AGAIN}")
    if start.startswith("version https://git-lfs"):
        return Identity("a pointer to a file in Git LFS", "run git lfs pull to fetch the file")
    return Identity("a text file", A_KERNEL)


def empty(head: bytes) -> Identity | None:
    if any(head):
        return None
    if not head:
        return Identity("an empty file", COPY_AGAIN)
    what = "nothing but zeros" if len(head) < HEAD else "zeros, at least in the first 64 KiB"
    return Identity(what, COPY_AGAIN)
