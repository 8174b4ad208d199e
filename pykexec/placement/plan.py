"""The decision of a load: what goes where, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pykexec.frozen import dataclass
from pykexec.placement.console import SILENT, StubConsole
from pykexec.placement.role import Role
from pykexec.placement.segment import Segment, SegmentTable, Source

if TYPE_CHECKING:
    from pykexec.abi.kexec import KexecFlag
    from pykexec.images.contents import Contents
    from pykexec.images.kernel_image import KernelImage
    from pykexec.memory.map import MemoryMap
    from pykexec.memory.ranges import PhysRange
    from pykexec.placement.cmdline import CommandLine
    from pykexec.placement.estimate import Estimate
    from pykexec.placement.request import LoadRequest, Mode
    from pykexec.placement.settle import Settle
    from pykexec.placement.stage import StageFrames


@dataclass(frozen=True, slots=True)
class InitrdVerdict:
    """The result of placement/initrd.py: `release` is that of the kernel, None if unknown;
    `modules` has the releases whose modules are in the initrd, as far as they were read."""

    warnings: tuple[str, ...] = ()
    release: str | None = None
    modules: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What could not be read, and why."""


NOT_CHECKED = InitrdVerdict()


@dataclass(frozen=True, slots=True)
class Placed:
    """One object at its place; `range` is in whole pages."""

    role: Role
    range: PhysRange
    why: str
    contents: Contents | None = None
    source: Source = Source.MEMORY_ONLY
    digested: bool = True
    """Whether the stub checks the bytes; False if the kernel may rewrite them."""
    label: str = ""
    """Where the role's own is not precise enough."""

    @property
    def name(self) -> str:
        """Its label in messages and documents."""
        return self.label or self.role.value

    @property
    def segment(self) -> Segment:
        return Segment(
            self.name,
            self.range.start,
            self.range.size,
            self.why,
            self.contents,
            self.source,
            self.role,
        )


@dataclass(frozen=True, slots=True)
class BootPlaces:
    """The places of the parts of every Linux boot, in whole pages."""

    information: PhysRange
    """The boot information, whose address the entry gets: boot_params, or a device tree."""
    kernel: PhysRange
    initrd: PhysRange | None
    entry: int
    """Address of the kernel's entry."""


@dataclass(frozen=True, kw_only=True)
class PlacementPlan:
    """Common parts of all plans; `placed` is in address order."""

    image: KernelImage
    request: LoadRequest
    memory_map: MemoryMap
    page_size: int
    """Bytes; each place is in whole pages of the running kernel."""
    placed: tuple[Placed, ...]
    entry: int
    flags: KexecFlag
    cmdline: CommandLine
    next_map: MemoryMap
    """The memory map for the next kernel; empty for an image that gets none."""
    window: PhysRange | None
    """The range for everything except memory below 1 MiB; None if not restricted."""
    console: StubConsole = SILENT
    warnings: tuple[str, ...] = ()
    initrd: InitrdVerdict = NOT_CHECKED

    def __iter__(self) -> Iterator[Placed]:
        return iter(self.placed)

    def first(self, role: Role) -> Placed | None:
        """The first with this role."""
        return next((item for item in self.placed if item.role is role), None)

    def named(self, name: str) -> Placed | None:
        """The first with this label."""
        return next((item for item in self.placed if item.name == name), None)


@dataclass(frozen=True, kw_only=True)
class NormalPlan(PlacementPlan):
    """A load that exec starts."""


@dataclass(frozen=True, kw_only=True)
class CapturePlan(PlacementPlan):
    """Common parts of the three ways to load a capture kernel."""

    window: PhysRange
    boot: BootPlaces
    estimate: Estimate
    headers: PhysRange
    """The place of the ELF core headers."""


@dataclass(frozen=True, kw_only=True)
class CrashPlan(CapturePlan):
    """A load into the crash region."""


@dataclass(frozen=True, kw_only=True)
class SwitchPlan(CapturePlan):
    """A crash by normal whose pages the kernel exchanges when it starts the image."""

    mode: Mode
    headers_at: PhysRange | None
    """Memory outside the image for the headers; None if they are in a segment."""


@dataclass(frozen=True, kw_only=True)
class PanicPlan(CapturePlan):
    """A crash by normal in huge pages; the stub is its only segment."""

    mode: Mode
    stage: StageFrames
    settle: Settle


ByNormalPlan = SwitchPlan | PanicPlan
Plan = NormalPlan | CrashPlan | ByNormalPlan
"""The decision, by kind of load."""


def mode_of(plan: Plan) -> Mode | None:
    """How the pages of a crash by normal are moved; None for any other load."""
    return plan.mode if isinstance(plan, ByNormalPlan) else None


def segment_table(plan: Plan) -> SegmentTable:
    """The plan as arguments of kexec_load(2), in address order, without the contents of a stage."""
    staged = isinstance(plan, PanicPlan)
    given = (item for item in plan if not staged or item.role is Role.PURGATORY)
    return SegmentTable(tuple(item.segment for item in given), plan.entry, plan.flags)
