"""Images that are recognized and described, but not loaded: for other architectures, and for
obsolete boot loaders."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pykexec.abi.arm64.image import RISCV_MAGIC, RISCV_MAGIC_AT, riscv_header
from pykexec.images.kernel_image import ForeignImage, ImageType, KernelImage, Refused

if TYPE_CHECKING:
    from pykexec.images.contents import OpenFile

NBI_MAGIC = (0x1B031336).to_bytes(4, "little")
BEOBOOT_MAGIC = b"BeoB"
Facts = tuple[tuple[str, str], ...]


def described(file: OpenFile, name: str, architecture: str, why: str, facts: Facts) -> KernelImage:
    """The value for an image that is only described."""
    return KernelImage(
        type=name,
        path=str(file.path),
        version=None,
        payload=file.span(0, file.size),
        boot=ForeignImage(architecture, why, facts),
    )


def _raw_image(
    name: str, architecture: str, magic: bytes, at: int, layout: Any, facts: Callable[[Any], Facts]
) -> Callable[[OpenFile], KernelImage | Refused]:
    """Make a parser for an Image with a 64-byte header."""

    def parse(file: OpenFile) -> KernelImage | Refused:
        size = layout.sizeof()
        if file.size < size or file.read(at, len(magic)) != magic:
            return Refused(f"no magic {ascii(magic)[1:]} at {at:#x}")
        header = layout.parse(file.read(0, size))
        why = f"it is a kernel for {architecture}, which pykexec cannot load"
        if header.image_size and header.image_size < file.size // 2:
            return Refused(
                f"image_size is {header.image_size:#x}, but the file has {file.size:#x} bytes",
                close=True,
            )
        return described(file, name, architecture, why, facts(header))

    return parse


def _riscv_facts(header: Any) -> Facts:
    return (
        ("text offset", f"{header.text_offset:#x}"),
        ("image size", f"{header.image_size:#x}"),
        ("byte order", "big-endian" if header.flags & 1 else "little-endian"),
        ("header version", f"{header.version >> 16}.{header.version & 0xFFFF}"),
    )


def _parse_nbi(file: OpenFile) -> KernelImage | Refused:
    if file.size < 512 or file.read(0, 4) != NBI_MAGIC:
        return Refused("no magic 0x1b031336 in the first sector")
    why = (
        "it is a network boot image (NBI) of etherboot: its segments start in real mode "
        "and call firmware that is no longer available; load the kernel inside it"
    )
    return described(file, "nbi", "i386", why, ())


def _parse_beoboot(file: OpenFile) -> KernelImage | Refused:
    if file.size < 4 or file.read(0, 4) != BEOBOOT_MAGIC:
        return Refused("no magic BeoB")
    why = "it is a beoboot image: extract the kernel and the initrd from it, and load those"
    return described(file, "beoboot", "i386", why, ())


RISCV_IMAGE = ImageType(
    "riscv-image",
    _raw_image("riscv-image", "riscv", RISCV_MAGIC, RISCV_MAGIC_AT, riscv_header, _riscv_facts),
)
NBI = ImageType("nbi", _parse_nbi)
BEOBOOT = ImageType("beoboot", _parse_beoboot)
