"""The one value that every image type becomes, and what an image type is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pykexec.errors import KexecError
from pykexec.images.contents import Contents, OpenFile


class NotAnImage(KexecError):
    """No known type, or a header that is truncated, oversized or lying.

    `expected` and `found` are in the message where a field is wrong.
    """

    code = "not-an-image"


@dataclass(frozen=True, slots=True)
class LinuxX86Boot:
    """What a bzImage's setup header asks for (boot.rst); bytes and physical addresses."""

    protocol: int
    """e.g. 0x20f"""
    setup_header: bytes
    """The file's bytes from 0x1f1 to the header's end."""
    init_size: int
    """Bytes of memory that the kernel needs from its load address on."""
    kernel_alignment: int
    pref_address: int
    cmdline_size: int
    """Longest command line, without its NUL."""
    xloadflags: int
    relocatable: bool
    entry_offset: int
    """From the load address to the 64-bit entry."""


@dataclass(frozen=True, slots=True)
class KernelImage:
    """What a file is and what it asks for; nothing is placed yet."""

    type: str
    """Name of its image type, e.g. "bzImage64"."""
    path: str
    version: str | None
    """The banner in the file, e.g. "6.1.0-56-cloud-amd64 (...)"."""
    payload: Contents
    """The bytes that go to the load address."""
    boot: LinuxX86Boot


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a file is not of a type; `close` when its magic says that it tries to be."""

    why: str
    close: bool = False


@dataclass(frozen=True, slots=True)
class ImageType:
    """One entry of IMAGE_TYPES."""

    name: str
    summary: str
    parse: Callable[[OpenFile], KernelImage | Refused]
