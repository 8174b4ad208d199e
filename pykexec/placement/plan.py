"""What is asked of a load, and the decision: which thing goes where, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from pykexec.abi.kexec import KexecFlag
from pykexec.images.contents import Contents
from pykexec.images.kernel_image import KernelImage
from pykexec.memory.map import MemoryMap
from pykexec.memory.ranges import PhysRange
from pykexec.placement.cmdline import CAPTURE_WORDS, CommandLine
from pykexec.placement.console import SILENT, StubConsole
from pykexec.placement.estimate import Estimate
from pykexec.placement.segment import NO_FLAGS, Segment, SegmentTable, Source
from pykexec.placement.stage import StageFrames


class ImageKind(StrEnum):
    """What is loaded, as JSON and the output spell it."""

    NORMAL = "normal"
    CRASH = "crash"
    CRASH_BY_NORMAL = "crash-by-normal"


class Mode(StrEnum):
    """Who moves the pages of a crash by normal (design: four ways, one plan)."""

    FLAG = "flag"
    KERNEL_SWAP = "kernel-swap"
    STUB_SWAP = "stub-swap"
    IN_PLACE = "in-place"


PANIC_MODES = frozenset((Mode.IN_PLACE, Mode.STUB_SWAP))
"""Those that a panic starts, from a tiny reservation."""


@dataclass(frozen=True, slots=True)
class Module:
    """A file that a multiboot image is given, and its string: "FILE args"."""

    contents: Contents
    line: str


@dataclass(frozen=True)
class LoadRequest:
    """The user's wishes; addresses and sizes in bytes, None where there is no wish."""

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
    panic_only: bool = False
    """Where no mode is asked for: only one that a panic starts."""
    replaces: bool = False
    """A crash by normal that is armed gives way to this one."""
    entry: int | None = None
    direct: bool = False
    """Start an ELF file at its own entry and not at the purgatory."""
    initrd_check: bool = True
    """Whether a crash load is refused for what its initrd is; else it is warned."""
    hotplug: bool = False
    """Let the kernel keep the headers of a crash load up to date itself."""
    checks: bool = True
    """Whether the stub compares digests."""
    serial_port: int | None = None
    """For the stub's words; None is the running kernel's console."""
    rng_seed: bytes = bytes(32)
    """Zeros in a dry run, so that two are alike; drawn for a real load."""
    flags: KexecFlag = NO_FLAGS
    """What the backend's kernel has to be told besides, e.g. KEXEC_PRESERVE_CONTEXT."""
    headers_at: PhysRange | None = None
    """Memory outside of the image for the ELF core headers, when a backend has some."""
    stage: StageFrames | None = None
    """Huge pages in which the image of a panic mode waits."""
    modules: tuple[Module, ...] = ()
    """For multiboot, in their order."""
    real_mode: bool = False
    """Start a bzImage by its real-mode entry."""
    profile: int | None = None
    """Which profile of a UKI; None for its default, 0."""
    capture_words: tuple[str, ...] = CAPTURE_WORDS
    """Added to a capture kernel's command line, besides elfcorehdr=."""


@dataclass(frozen=True, slots=True)
class InitrdVerdict:
    """What placement/initrd.py found: `release` is the kernel's own, None where it is unknown;
    `modules` are the releases whose modules are in the initrd, as far as they were read."""

    warnings: tuple[str, ...] = ()
    release: str | None = None
    modules: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What could not be read, and why."""


NOT_CHECKED = InitrdVerdict()


@dataclass(frozen=True, slots=True)
class Placed:
    """One thing at its place; `range` is whole pages."""

    name: str
    range: PhysRange
    why: str
    contents: Contents | None = None
    source: Source = Source.MEMORY_ONLY
    digested: bool = True
    """Whether the stub checks the bytes; not when the kernel may rewrite them."""

    @property
    def segment(self) -> Segment:
        return Segment(
            self.name, self.range.start, self.range.size, self.why, self.contents, self.source
        )


@dataclass(frozen=True, slots=True)
class Boot:
    """Where the things of every Linux boot go; whole pages."""

    boot_params: PhysRange
    kernel: PhysRange
    initrd: PhysRange | None
    entry: int
    """Address of the kernel's entry."""


@dataclass(frozen=True)
class PlacementPlan:
    """The decision. `placed` is in address order; `window` is where all of it had to fit."""

    image: KernelImage
    request: LoadRequest
    memory_map: MemoryMap
    placed: tuple[Placed, ...]
    entry: int
    flags: KexecFlag
    cmdline: CommandLine
    next_map: MemoryMap
    """The memory map that the next kernel is given; empty for an image that is given none."""
    mode: Mode | None = None
    window: PhysRange | None = None
    boot: Boot | None = None
    stage: StageFrames | None = None
    """Where the image waits for a panic; then the stub is the only segment."""
    estimate: Estimate | None = None
    console: StubConsole = SILENT
    warnings: tuple[str, ...] = ()
    initrd: InitrdVerdict = NOT_CHECKED

    def __iter__(self) -> Iterator[Placed]:
        return iter(self.placed)

    def named(self, name: str) -> Placed | None:
        return next((item for item in self.placed if item.name == name), None)

    @property
    def headers(self) -> PhysRange | None:
        """Where the ELF core headers lie or will lie."""
        inside = self.named(ELFCOREHDR)
        return inside.range if inside else self.request.headers_at


PURGATORY = "purgatory"
BOOT_PARAMS = "boot_params, command line"
KERNEL = "kernel"
KERNEL_32 = "32-bit kernel"
SETUP_CODE = "real-mode setup code, command line"
BOOT_NOTES = "ELF boot notes, command line"
MULTIBOOT_INFO = "multiboot information"
MODULE = "module"
INITRD = "initrd"
ELFCOREHDR = "ELF core headers"
BACKUP = "backup of memory below 1 MiB"
CAPTURE_MEMORY = "memory of the capture kernel"
LOW = "memory below 1 MiB"


def segment_table(plan: PlacementPlan) -> SegmentTable:
    """The plan as kexec_load(2) takes it, in address order; what is staged is not given to it."""
    given = (item for item in plan if not plan.stage or item.name == PURGATORY)
    return SegmentTable(tuple(item.segment for item in given), plan.entry, plan.flags)
