"""uImage, U-Boot's legacy format: a header with two checksums, followed by a kernel.

Both are checked before anything else is used. The kernel inside is recognized like any other file;
the load address and entry are for U-Boot, and not used.
"""

from __future__ import annotations

import zlib
from typing import Any

from pykexec.abi.uimage import (
    HCRC_AT,
    IH_ARCHS,
    IH_COMPS,
    IH_MAGIC,
    IH_OS_LINUX,
    IH_TYPE_KERNEL,
    IH_TYPES,
    legacy_img_hdr,
)
from pykexec.images.compression import file_codec
from pykexec.images.contents import InnerFile, OpenFile
from pykexec.images.kernel_image import (
    ForeignImage,
    ImageType,
    Inside,
    KernelImage,
    Refused,
    printable,
)

LOADED = ("i386", "x86_64", "arm64")


def _parse(file: OpenFile) -> Inside | KernelImage | Refused:
    """What is inside, a description of a foreign kernel, or why this is not a uImage."""
    size = legacy_img_hdr.sizeof()
    if file.size < size:
        return Refused(f"{file.size:#x} bytes, less than the {size:#x} of a uImage header")
    raw = file.read(0, size)
    if raw[:4] != IH_MAGIC.to_bytes(4, "big"):
        return Refused(f"no magic {IH_MAGIC:#x}")
    header = legacy_img_hdr.parse(raw)
    crc = zlib.crc32(raw[:HCRC_AT] + bytes(4) + raw[HCRC_AT + 4 :])
    if crc != header.ih_hcrc:
        return Refused(
            f"header checksum is {header.ih_hcrc:#010x}, expected {crc:#010x}", close=True
        )
    if why := _no_linux(header.ih_type, header.ih_os):
        return Refused(why, close=True)
    if not header.ih_size or size + header.ih_size > file.size:
        return Refused(
            f"truncated: the header specifies {header.ih_size:#x} bytes, but "
            f"{file.size - size:#x} follow",
            close=True,
        )
    inner = InnerFile(file, size, header.ih_size)
    crc = 0
    for chunk in inner.span(0, inner.size).chunks():
        crc = zlib.crc32(chunk, crc)
    if crc != header.ih_dcrc:
        return Refused(f"data checksum is {header.ih_dcrc:#010x}, expected {crc:#010x}", close=True)
    version = printable(header.ih_name)
    arch = IH_ARCHS.get(header.ih_arch, f"architecture {header.ih_arch}")
    if arch not in LOADED:
        return _foreign(file, inner, version, arch, header)
    if why := _wrong_compression(header.ih_comp, inner):
        return Refused(why, close=True)
    return Inside(file=inner, how="uImage", type="uImage", version=version)


def _no_linux(kind: int, system: int) -> str | None:
    if kind != IH_TYPE_KERNEL:
        return f"it contains a {IH_TYPES.get(kind, f'thing of type {kind}')}, expected a kernel"
    return None if system == IH_OS_LINUX else f"for operating system {system}, expected 5 (Linux)"


def _wrong_compression(number: int, inner: OpenFile) -> str | None:
    """Why not, unless the header agrees with the first bytes."""
    specified = IH_COMPS.get(number)
    if specified is None:
        return f"unknown compression {number}"
    codec = file_codec(inner)
    found = codec.name.split(" ")[0] if codec else "none"
    if specified not in ("none", found):
        return f"the header specifies compression {specified}, but the data has {found}"
    return None


def _foreign(
    file: OpenFile, inner: OpenFile, version: str | None, arch: str, header: Any
) -> KernelImage:
    """Checked and described; not loaded."""
    facts = (
        ("load address", f"{header.ih_load:#x}"),
        ("entry", f"{header.ih_ep:#x}"),
        ("compression", IH_COMPS.get(header.ih_comp, "unknown")),
    )
    return KernelImage(
        type="uImage",
        path=str(file.path),
        version=version,
        payload=inner.span(0, inner.size),
        boot=ForeignImage(arch, f"it is a kernel for {arch}, which pykexec cannot load", facts),
    )


UIMAGE = ImageType("uImage", _parse)
