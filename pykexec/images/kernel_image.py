"""The value that every image type is parsed into, and the definition of an image type."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from pykexec.errors import KexecError, NotSupported
from pykexec.frozen import dataclass

if TYPE_CHECKING:
    from pykexec.images.contents import Contents, FileSpan, OpenFile
    from pykexec.remedies import Advice


class NotAnImage(KexecError):
    """No known type, or a header that is truncated, oversized or contradictory.

    The message has the expected and the found value if a field is wrong.
    """

    code = "not-an-image"


class UnservedImage(NotSupported):
    """A valid image that requires something that cannot be provided, or cannot be started here."""

    code = "image-not-served"


@dataclass(frozen=True, slots=True)
class LinuxX86Boot:
    """A Linux x86_64 kernel by its 64-bit entry, as its setup header requires (boot.rst); a vmlinux
    has the header that its bzImage would have. In bytes and physical addresses."""

    protocol: int
    """e.g. 0x20f"""
    setup_header: bytes
    """The file's bytes from 0x1f1 to the header's end."""
    init_size: int
    """Bytes of memory that the kernel needs, starting at its load address."""
    kernel_alignment: int
    pref_address: int
    cmdline_size: int
    """Length limit of the command line in bytes, without its NUL."""
    xloadflags: int
    relocatable: bool
    entry_offset: int
    """From the load address to the 64-bit entry."""
    lowest: bool = False
    """Whether it must be placed at the lowest free address from pref_address up."""


@dataclass(frozen=True, slots=True)
class LinuxArm64Boot:
    """A Linux arm64 kernel, as its header requires (Documentation/arch/arm64/booting.rst). In bytes
    and physical addresses."""

    text_offset: int
    """From a multiple of 2 MiB to its load address, which is its entry."""
    image_size: int
    """Memory that it needs from its load address up, with its bss."""
    page_size: int | None
    """Of its page tables; None if the header does not tell (before 4.6)."""
    big_endian: bool
    anywhere: bool
    """Whether it may be at any multiple of 2 MiB; otherwise near the start of RAM (before 4.6)."""
    cmdline_size: int = 2047
    """Length limit of the command line in bytes, without its NUL (COMMAND_LINE_SIZE of
    arch/arm64/include/uapi/asm/setup.h)."""

    @property
    def init_size(self) -> int:
        """Bytes of memory from the multiple of 2 MiB up."""
        return self.text_offset + self.image_size

    @property
    def lowest(self) -> bool:
        """Never: it may be at any address."""
        return False


@dataclass(frozen=True, slots=True)
class Linux32Boot:
    """A Linux kernel by its 32-bit entry (boot.rst, "32-bit Boot Protocol")."""

    protocol: int
    setup_header: bytes
    """Padded with zeros to the length of protocol 2.12."""
    memory: int
    """Bytes from the load address up: init_size, or the payload's size if that is missing."""
    kernel_alignment: int
    load_addr: int
    """Its load address; the lowest possible one if it is relocatable."""
    relocatable: bool
    cmdline_size: int
    initrd_addr_max: int
    """Highest address of the initrd's last byte."""
    entry_offset: int | None
    """From the load address to the 32-bit entry; None if there is none, and the kernel starts only
    in real mode."""
    setup: Contents | None = None
    """The file's first sectors, which run in real mode, or None."""


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
    """An ELF file that is not a Linux kernel: its PT_LOADs by physical address, its entry."""

    bits: int
    """32 or 64."""
    entry: int
    parts: tuple[LoadPart, ...]
    relocatable: bool
    """ET_DYN: may be placed elsewhere, with all parts moved by the same distance."""


@dataclass(frozen=True, slots=True)
class LoadRange:
    """Multiboot 2, relocatable tag: where the image may be placed (`high` is its last byte)."""

    low: int
    high: int
    align: int
    from_top: bool


@dataclass(frozen=True, slots=True)
class MultibootBoot:
    """What a multiboot header requests; the entry is in 32-bit mode. Modules are always
    page-aligned, requested or not."""

    version: int
    entry: int
    parts: tuple[LoadPart, ...]
    memory_info: bool = True
    """Whether a version 1 header requests the memory map; version 2 always gets it."""
    framebuffer: bool = False
    """Whether it requests a video mode."""
    relocation: LoadRange | None = None
    required: tuple[int, ...] = ()
    """Types of information that the image requires (version 2)."""


@dataclass(frozen=True, slots=True)
class ForeignImage:
    """Recognized and described, but not loaded; `why` is the reason."""

    architecture: str
    why: str
    facts: tuple[tuple[str, str], ...] = ()


LinuxBoot = LinuxX86Boot | LinuxArm64Boot
"""The kernels that can capture a dump. They have in common `init_size`, `cmdline_size` and
`lowest`."""
Boot = LinuxBoot | Linux32Boot | ElfBoot | MultibootBoot | ForeignImage
"""How an image is started; placement has one module for each."""
KindOfLinux = TypeVar("KindOfLinux", LinuxX86Boot, LinuxArm64Boot)


class NoLinux64(NotSupported):
    """Something that only a 64-bit Linux kernel can do was requested for another image."""

    code = "not-a-linux-x86-64-kernel"


@dataclass(frozen=True, slots=True)
class Implied:
    """What an image provides itself (a UKI's sections). The user's options override it."""

    initrd: Contents | None = None
    cmdline: str | None = None
    dtb: Contents | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """One profile of a UKI: its number, from 0, and the fields of its .profile section."""

    number: int
    id: str | None
    title: str | None

    def __str__(self) -> str:
        """The number, and ID: TITLE as far as present."""
        names = ": ".join(name for name in (self.id, self.title) if name)
        return f"{self.number} {names}" if names else str(self.number)


@dataclass(frozen=True, slots=True)
class KernelImage:
    """What a file is and what it requires; nothing is placed yet."""

    type: str
    """Name of its image type, e.g. "bzImage64"."""
    path: str
    version: str | None
    """The banner in the file, e.g. "6.1.0-56-cloud-amd64 (...)"."""
    payload: Contents
    """The bytes that go to the load address; for an image of several parts, all its bytes."""
    boot: Boot
    wrapped: tuple[str, ...] = ()
    """The compressions and containers around it, outermost first."""
    implied: Implied = Implied()
    profiles: tuple[Profile, ...] = ()
    """All profiles of a UKI."""
    profile: int | None = None
    """The number of the selected profile; None if there are none."""
    file: FileSpan | None = None
    """The complete file as it is on disk."""
    inner: OpenFile | None = None
    """The file that was parsed: the unpacked one, or the one inside a container."""

    @property
    def linux(self) -> LinuxBoot:
        """The boot of a 64-bit Linux kernel. Raises NoLinux64 for anything else."""
        if isinstance(self.boot, LinuxArm64Boot):
            return self.boot
        return self.linux_for(LinuxX86Boot)

    def linux_for(self, kind: builtins.type[KindOfLinux]) -> KindOfLinux:
        """The boot of a Linux kernel of this kind. Raises NoLinux64 for anything else."""
        if isinstance(self.boot, kind):
            return self.boot
        if kind is LinuxArm64Boot:
            raise NoLinux64(
                f"{self.path} is of type {self.type}, but a Linux kernel for arm64 is needed",
                hint="use an Image, as it is or compressed, a zboot file or a UKI for arm64",
                type=self.type,
            )
        raise NoLinux64(
            f"{self.path} is of type {self.type}, but a Linux kernel for x86_64 is needed",
            hint="use a bzImage or vmlinux for x86_64; nothing else can capture a dump",
            type=self.type,
        )


def printable(raw: bytes) -> str | None:
    """Text from a file, up to a NUL, safe for a terminal; None if it is empty."""
    text = raw.split(b"\0")[0].decode("ascii", "replace")
    return "".join(char if char.isprintable() else "?" for char in text) or None


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a file is not of a type; `close` if it has the magic of the type, `unserved` if it is
    valid but cannot be loaded."""

    why: str
    close: bool = False
    unserved: bool = False
    hint: Advice | None = None


@dataclass(frozen=True, slots=True)
class Inside:
    """The image is inside this file, in `file`."""

    file: OpenFile
    how: str
    """For `KernelImage.wrapped`, e.g. "uImage"."""
    type: str | None = None
    """The type of the whole file, if it is not that of the image inside."""
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
