"""The job of the stub that precedes an image, and the stub as the entry of a plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from pykexec.frozen import dataclass
from pykexec.images.contents import Built
from pykexec.placement.console import SILENT, StubConsole
from pykexec.placement.plan import Placed
from pykexec.placement.role import Role
from pykexec.placement.segment import Source
from pykexec.purgatory import Exchange, Region

if TYPE_CHECKING:
    from pykexec.machine import Machine
    from pykexec.memory.ranges import PhysRange
    from pykexec.placement.boot_protocol import BootProtocol
    from pykexec.placement.request import LoadRequest

MAX_REGIONS = 4
"""What the stub checks of a Linux: kernel, initrd, boot information, ELF core headers."""


@dataclass(frozen=True)
class StubJob:
    """The job of one stub; addresses are physical."""

    argument: int
    """The argument of the entry: the address of boot_params or of a device tree."""
    entry: int
    regions: tuple[Region, ...] = ()
    exchanges: tuple[Exchange, ...] = ()
    seal: int = 0
    checks: bool = True
    console: StubConsole = SILENT
    reset_seconds: int = 0
    settle_seconds: int = 0
    """Time to wait between the checks and the exchanges."""
    in_use: bool = False
    """Whether the destinations are in use until the panic, so that devices may still write there:
    they are stopped before the wait, and the digests are checked again after the exchanges."""
    clock_khz: int = 0
    """Frequency of the processor's counter, to measure that time; 0 for another clock."""
    keep: tuple[PhysRange, ...] = ()
    """What must not be exchanged besides the segment itself: the kernel's page tables."""
    window: PhysRange | None = None
    """The memory of a capture kernel."""


def encoder(protocol: BootProtocol, machine: Machine) -> Callable[[StubJob, int], bytes]:
    """What makes the bytes of a stub for an address of this machine. It raises BadExchange."""
    return lambda job, at: protocol.encode_stub(job, machine, at)


Job = TypeVar("Job", bound=StubJob)


def entry_of(request: LoadRequest, purgatory: PhysRange) -> int:
    """The purgatory, unless the user requested another entry."""
    return purgatory.start if request.entry is None else request.entry


def regions(placed: Iterable[Placed]) -> tuple[Region, ...]:
    """What the stub checks: only loaded bytes, without zeros, parts that the kernel will rewrite,
    and empty files."""
    return tuple(
        Region(item.range.start, item.contents.size, item.contents.sha256)
        for item in placed
        if item.contents and item.contents.size and item.digested
    )


def with_purgatory(
    placed: Iterable[Placed],
    at: PhysRange,
    job: Job,
    encode: Callable[[Job, int], bytes],
    why: str = "at the highest free address",
    starts: str = "kernel",
) -> tuple[Placed, ...]:
    """The objects and their purgatory, in address order; the purgatory is built last, because it
    has the digest of each. `encode` returns its bytes for an address, `why` explains its place."""
    things = tuple(placed)
    checking = replace(job, regions=regions(things)) if job.checks else job
    made = Placed(
        Role.PURGATORY,
        at,
        f"{why}; the entry: verifies the digests, then starts the {starts}",
        Built(encode(checking, at.start)),
        Source.BUILT,
    )
    return tuple(sorted((*things, made), key=lambda item: item.range))
