"""The request for a load."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from pykexec.frozen import dataclass

if TYPE_CHECKING:
    from pykexec.images.contents import Contents
    from pykexec.machine import SerialConsole


class ImageKind(StrEnum):
    """What is loaded, as JSON and the output spell it."""

    NORMAL = "normal"
    CRASH = "crash"
    CRASH_BY_NORMAL = "crash-by-normal"


class Mode(StrEnum):
    """How the pages of a crash by normal are moved."""

    FLAG = "flag"
    KERNEL_SWAP = "kernel-swap"
    STUB_SWAP = "stub-swap"
    IN_PLACE = "in-place"
    LENT = "lent"


PANIC_MODES = frozenset((Mode.LENT, Mode.IN_PLACE, Mode.STUB_SWAP))
"""Modes that a panic starts, from a tiny reservation."""


class Keep(StrEnum):
    """Which memory of the first kernel a crash by normal must keep for the dump."""

    ALL = "all"
    KERNEL = "kernel"
    """All except user pages, page cache and free pages in the window."""


@dataclass(frozen=True, slots=True)
class Module:
    """A file for a multiboot image, and its string: "FILE args"."""

    contents: Contents
    line: str


@dataclass(frozen=True)
class LoadRequest:
    """What the user requested, and nothing else. Addresses and sizes are in bytes; None leaves the
    decision to pykexec."""

    kind: ImageKind = ImageKind.NORMAL
    initrd: Contents | None = None
    append: tuple[str, ...] = ()
    reuse_cmdline: bool = False
    cmdline_remove: tuple[str, ...] = ()
    mem_min: int | None = None
    mem_max: int | None = None
    """Inclusive, as in kexec-tools."""
    crash_size: int | None = None
    mode: Mode | None = None
    keep: Keep = Keep.ALL
    replaces: bool = False
    """Replace an armed crash by normal."""
    settle: int | None = None
    """Seconds that the stub waits before it moves anything; None for the mode's default."""
    entry: int | None = None
    direct: bool = False
    """Start an ELF file at its own entry instead of the purgatory."""
    initrd_check: bool = True
    """Refuse a crash load whose initrd cannot work; otherwise only warn."""
    hotplug: bool = False
    """Let the kernel keep the headers of a crash load up to date itself."""
    checks: bool = True
    """Whether the stub compares digests."""
    serial_port: int | SerialConsole | None = None
    """For the stub's messages: an I/O port, or a UART where those are in memory; None for the
    running kernel's console."""
    modules: tuple[Module, ...] = ()
    """For multiboot, in order."""
    dtb: Contents | None = None
    """A device tree instead of the running kernel's, for arm64."""
    real_mode: bool = False
    """Start a bzImage by its real-mode entry."""
    profile: int | None = None
    """Number of a UKI's profile; None for the default, 0."""
    capture_words: tuple[str, ...] | None = None
    """Added to a capture kernel's command line, besides elfcorehdr=; None for the usual words of
    its architecture."""
