"""The one value that every image type becomes, and what an image type is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pykexec.errors import KexecError, NotSupported
from pykexec.images.contents import Contents, FileSpan, OpenFile


class NotAnImage(KexecError):
    """No known type, or a header that is truncated, oversized or lying.

    `expected` and `found` are in the message where a field is wrong.
    """

    code = "not-an-image"


class UnservedImage(NotSupported):
    """A good image that asks for something which cannot be given, or starts in a way that is
    not possible here."""

    code = "image-not-served"


@dataclass(frozen=True, slots=True)
class LinuxX86Boot:
    """A Linux x86_64 kernel by its 64-bit entry, as its setup header asks for it (boot.rst); a
    vmlinux has the header that its bzImage would have. Bytes and physical addresses."""

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
    lowest: bool = False
    """Whether it belongs at pref_address, and as near above it as there is room."""


@dataclass(frozen=True, slots=True)
class Linux32Boot:
    """A Linux kernel by its 32-bit entry (boot.rst, "32-bit Boot Protocol")."""

    protocol: int
    setup_header: bytes
    """Padded with zeros to the length of protocol 2.12."""
    memory: int
    """Bytes from the load address on: init_size, or the payload's where there is none."""
    kernel_alignment: int
    load_addr: int
    """Where it belongs; the lowest address where it may lie if it is relocatable."""
    relocatable: bool
    cmdline_size: int
    initrd_addr_max: int
    """Highest address of the initrd's last byte."""
    entry_offset: int | None
    """From the load address to the 32-bit entry; None where there is none, and the kernel
    starts in real mode only."""
    setup: Contents | None = None
    """The file's first sectors, which run in real mode; None where there are none."""


@dataclass(frozen=True, slots=True)
class LoadPart:
    """`memsz` bytes at `addr`: `contents`, then zeros."""

    addr: int
    memsz: int
    contents: Contents | None

    @property
    def end(self) -> int:
        return self.addr + self.memsz

    def __contains__(self, addr: int) -> bool:
        return self.addr <= addr < self.end


@dataclass(frozen=True, slots=True)
class ElfBoot:
    """An ELF file that is no Linux kernel: its PT_LOADs by physical address, its entry."""

    bits: int
    """32 or 64."""
    entry: int
    parts: tuple[LoadPart, ...]
    relocatable: bool
    """ET_DYN: may lie elsewhere, all parts moved by the same distance."""


@dataclass(frozen=True, slots=True)
class Relocation:
    """Multiboot 2, relocatable tag: where the image may lie (`high` is its last byte)."""

    low: int
    high: int
    align: int
    from_top: bool


@dataclass(frozen=True, slots=True)
class MultibootBoot:
    """What a multiboot header asks for; the entry is in 32-bit mode. Modules start at whole
    pages, asked or not."""

    version: int
    entry: int
    parts: tuple[LoadPart, ...]
    memory_info: bool = True
    """Whether a version 1 header asks for the memory map; version 2 gets it always."""
    framebuffer: bool = False
    """Whether it asks for a video mode."""
    relocation: Relocation | None = None
    required: tuple[int, ...] = ()
    """Types of information that the image does not start without (version 2)."""


@dataclass(frozen=True, slots=True)
class ForeignImage:
    """Recognised, described, and not loaded: `why` says so in words."""

    architecture: str
    why: str
    facts: tuple[tuple[str, str], ...] = ()


Boot = LinuxX86Boot | Linux32Boot | ElfBoot | MultibootBoot | ForeignImage
"""What is needed around an image; placement has one module for each."""


class NoLinux64(NotSupported):
    """Something that only a Linux x86_64 kernel can do was asked of another image."""

    code = "not-a-linux-x86-64-kernel"


@dataclass(frozen=True, slots=True)
class Implied:
    """What an image brings along (a UKI's sections). The user's own words win."""

    initrd: Contents | None = None
    cmdline: str | None = None
    dtb: Contents | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """One profile of a UKI: its number from 0 on, and what its .profile section says of it."""

    number: int
    id: str | None
    title: str | None

    def __str__(self) -> str:
        """The number, and ID: TITLE as far as there are any."""
        names = ": ".join(name for name in (self.id, self.title) if name)
        return f"{self.number} {names}" if names else str(self.number)


@dataclass(frozen=True, slots=True)
class KernelImage:
    """What a file is and what it asks for; nothing is placed yet."""

    type: str
    """Name of its image type, e.g. "bzImage64"."""
    path: str
    version: str | None
    """The banner in the file, e.g. "6.1.0-56-cloud-amd64 (...)"."""
    payload: Contents
    """The bytes that go to the load address; of an image of several parts, all its bytes."""
    boot: Boot
    wrapped: tuple[str, ...] = ()
    """What it was taken out of, outermost first: compressions and containers."""
    implied: Implied = Implied()
    profiles: tuple[Profile, ...] = ()
    """Of a UKI, all that it has."""
    profile: int | None = None
    """The number of the profile that was taken; None where there are none."""
    file: FileSpan | None = None
    """The whole file as it lies on the disk."""
    inner: OpenFile | None = None
    """The file that it was taken for: the unpacked one, or the one inside a container."""

    @property
    def linux(self) -> LinuxX86Boot:
        """The boot of a Linux x86_64 kernel. Raises NoLinux64 for anything else."""
        if isinstance(self.boot, LinuxX86Boot):
            return self.boot
        raise NoLinux64(
            f"{self.path} is of type {self.type}, but a Linux kernel for x86_64 is needed",
            hint="use a bzImage or vmlinux for x86_64; nothing else can capture a dump",
            type=self.type,
        )


def printable(raw: bytes) -> str | None:
    """What a file says of itself, up to a NUL, fit for a terminal; None for nothing."""
    text = raw.split(b"\0")[0].decode("ascii", "replace")
    return "".join(char if char.isprintable() else "?" for char in text) or None


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a file is not of a type; `close` when its magic says that it tries to be, `unserved`
    when it is a good one that cannot be loaded."""

    why: str
    close: bool = False
    unserved: bool = False
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Inside:
    """The image is inside this file, in `file`."""

    file: OpenFile
    how: str
    """For `KernelImage.wrapped`, e.g. "uImage"."""
    type: str | None = None
    """The type that the whole has, where it is not that of the image inside."""
    implied: Implied = Implied()
    version: str | None = None
    profiles: tuple[Profile, ...] = ()
    profile: int | None = None


Outcome = KernelImage | Inside | Refused


@dataclass(frozen=True, slots=True)
class ImageType:
    """One entry of IMAGE_TYPES."""

    name: str
    parse: Callable[[OpenFile], Outcome]
