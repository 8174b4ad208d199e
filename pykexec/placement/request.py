"""What is asked of a load."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from pykexec.frozen import dataclass
from pykexec.placement.cmdline import CAPTURE_WORDS

if TYPE_CHECKING:
    from pykexec.images.contents import Contents


class ImageKind(StrEnum):
    """What is loaded, as JSON and the output spell it."""

    NORMAL = "normal"
    CRASH = "crash"
    CRASH_BY_NORMAL = "crash-by-normal"


class Mode(StrEnum):
    """Which program moves the pages of a crash by normal, and when."""

    FLAG = "flag"
    KERNEL_SWAP = "kernel-swap"
    STUB_SWAP = "stub-swap"
    IN_PLACE = "in-place"
    LENT = "lent"


PANIC_MODES = frozenset((Mode.LENT, Mode.IN_PLACE, Mode.STUB_SWAP))
"""Those that a panic starts, from a tiny reservation."""


class Keep(StrEnum):
    """Which of the first kernel's memory a crash by normal has to keep for the dump."""

    ALL = "all"
    KERNEL = "kernel"
    """All but user pages, page cache and free pages that the window holds."""


@dataclass(frozen=True, slots=True)
class Module:
    """A file that a multiboot image is given, and its string: "FILE args"."""

    contents: Contents
    line: str


@dataclass(frozen=True)
class LoadRequest:
    """What the user asked for, and nothing else. Addresses and sizes are in bytes; None leaves the
    decision to pykexec."""

    kind: ImageKind = ImageKind.NORMAL
    initrd: Contents | None = None
    append: tuple[str, ...] = ()
    reuse_cmdline: bool = False
    cmdline_remove: tuple[str, ...] = ()
    mem_min: int | None = None
    mem_max: int | None = None
    """Inclusive, as kexec-tools has it."""
    crash_size: int | None = None
    mode: Mode | None = None
    keep: Keep = Keep.ALL
    replaces: bool = False
    """A crash by normal that is armed gives way to this one."""
    settle: int | None = None
    """Seconds that the stub waits before it moves anything; None for the mode's default."""
    entry: int | None = None
    direct: bool = False
    """Start an ELF file at its own entry and not at the purgatory."""
    initrd_check: bool = True
    """Refuse a crash load whose initrd cannot work; otherwise only warn."""
    hotplug: bool = False
    """Let the kernel keep the headers of a crash load up to date itself."""
    checks: bool = True
    """Whether the stub compares digests."""
    serial_port: int | None = None
    """For the stub's words; None is the running kernel's console."""
    modules: tuple[Module, ...] = ()
    """For multiboot, in their order."""
    real_mode: bool = False
    """Start a bzImage by its real-mode entry."""
    profile: int | None = None
    """Which profile of a UKI; None for its default, 0."""
    capture_words: tuple[str, ...] = CAPTURE_WORDS
    """Added to a capture kernel's command line, besides elfcorehdr=."""
