"""A complete crash by normal, on a temporary machine:

load -> fill every frame in use with a self-describing page -> panic -> capture
     -> every such page is readable at its own address, exactly once
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pykexec.backends.simulated import SimulatedBackend
from pykexec.crash.pattern import PATTERN_SIZE, pattern_page
from pykexec.dump.vmcore_check import Expected, VmcoreVerdict, verify
from pykexec.dump.vmcore_pages import PatternCount
from pykexec.errors import KexecError
from pykexec.flows.load import LoadedPlan, load
from pykexec.machine import Unknown
from pykexec.placement.kernel_rules import Check
from pykexec.placement.plan import mode_of
from pykexec.placement.request import PANIC_MODES, ImageKind, LoadRequest, Mode
from pykexec.placement.window import WindowRefused

if TYPE_CHECKING:
    from pykexec.crash.backup_map import BackupMap
    from pykexec.flows.rehearse.qemu import QemuMachine
    from pykexec.images.kernel_image import KernelImage
    from pykexec.memory.ranges import PhysRange, RangeSet
    from pykexec.placement.segment import SegmentTable

FILL_PAGES = 256
"""Pages to write at a time: 1 MiB."""


class Progress(Protocol):
    """Receives the name of each step."""

    def step(self, text: str) -> None: ...


class NoProgress:
    """Nobody looks."""

    def step(self, text: str) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class RehearsalMachine:
    """The machine to rehearse on; `memory` in bytes, `used` in percent of it."""

    memory: int = 1 << 30
    used: int = 40
    allocator: str = "random"
    relocate: str = "swap"
    seed: int = 0


@dataclass(frozen=True)
class LoadFacts:
    """The facts to report about a loaded crash by normal, from either kind of kernel."""

    image: KernelImage
    mode: Mode | None
    window: PhysRange | None
    backup_map: BackupMap
    headers_at: PhysRange
    program_headers: int
    page_size: int
    warnings: tuple[str, ...] = ()
    table: SegmentTable | None = None
    """None on a real kernel, which only gets the stub."""

    @classmethod
    def of(cls, done: LoadedPlan) -> LoadFacts:
        plan, bound = done.planned.plan, done.bound
        assert bound, "a crash by normal has ELF core headers"
        return cls(
            plan.image,
            mode_of(plan),
            plan.window,
            bound.backup_map,
            bound.headers_at,
            bound.program_headers,
            plan.page_size,
            (*(plan.initrd.warnings if plan.request.initrd else ()), *plan.warnings),
            done.planned.table,
        )


@dataclass(frozen=True)
class Rehearsal:
    """The result of a rehearsal; counts are pages."""

    engine: str
    stage: RehearsalMachine | QemuMachine
    load: LoadFacts
    filled: int
    """Frames in use when the machine crashed, without those of lent memory."""
    dump: VmcoreVerdict

    @property
    def patterns(self) -> PatternCount:
        return self.dump.patterns or PatternCount()

    @property
    def checks(self) -> tuple[Check, ...]:
        """The checks of the dump, and whether all filled pages are in it."""
        right = self.patterns.right
        detail = (
            f"{right} of {self.filled} pages are readable at their original address, exactly once"
        )
        return (*self.dump.checks, Check("every-old-page", right == self.filled, detail))

    @property
    def good(self) -> bool:
        """Here an unknown result counts as a failure."""
        return all(check.ok for check in self.checks)


def rehearse(
    kernel: str | os.PathLike[str],
    request: LoadRequest,
    image_type: str | None = None,
    stage: RehearsalMachine | None = None,
    progress: Progress | None = None,
) -> Rehearsal:
    """Raises KexecError if the load is refused, or the capture kernel does not boot."""
    chosen, tell = stage or RehearsalMachine(), progress or NoProgress()
    wanted = replace(request, kind=ImageKind.CRASH_BY_NORMAL)
    with tempfile.TemporaryDirectory(prefix="pykexec-") as folder:
        backend = SimulatedBackend.create(
            Path(folder) / "machine",
            chosen.memory,
            seed=chosen.seed,
            used=chosen.used,
            allocator=chosen.allocator,
            relocate=chosen.relocate,
        )
        if request.mode in PANIC_MODES:
            backend.make_region()
        tell.step("loading")
        try:
            facts = LoadFacts.of(load(kernel, backend, wanted, image_type))
        except KexecError as error:
            blame_memory(error, request, chosen.memory)
            raise
        frames = backend.show().in_use
        expected = expected_of_machine(backend)
        tell.step("filling memory")
        fill(backend, frames)
        tell.step("panic, and the capture kernel")
        backend.crash()
        tell.step("reading the dump")
        dump = verify(backend.folder.vmcore, expected)
        filled = (frames - expected.lent).size // PATTERN_SIZE
        return Rehearsal("simulated", chosen, facts, filled, dump)


def blame_memory(error: KexecError, request: LoadRequest, memory: int) -> None:
    """Replaces the hint if a default window does not fit: then the rehearsal's machine is too small
    (`memory` in bytes), and advice for a real one does not help."""
    asked = (request.crash_size, request.mem_min, request.mem_max)
    if error.code == WindowRefused.code and asked == (None, None, None):
        error.remedy = f"use a larger --memory: this machine has {memory >> 20} MiB"


def expected_of_machine(backend: SimulatedBackend) -> Expected:
    """What a dump of this machine must contain: the frames in use by its first kernel, and those it
    wrote, without what mode *lent* leaves out."""
    shown, cpus = backend.show(), backend.machine().cpus
    ram = shown.memory_map.whole_page_ram(shown.page_size)
    if shown.reservation:
        ram = ram.without(shown.reservation)
    return Expected(
        (shown.in_use | shown.kernel) - shown.lent,
        ram,
        None if isinstance(cpus, Unknown) else len(cpus),
        shown.lent,
    )


def fill(backend: SimulatedBackend, frames: RangeSet) -> None:
    """Fill these frames with self-describing pages."""
    with backend.folder.session(write=True) as session:
        for span in frames:
            for addr in range(span.start, span.end, FILL_PAGES * PATTERN_SIZE):
                end = min(span.end, addr + FILL_PAGES * PATTERN_SIZE)
                pages = (pattern_page(at) for at in range(addr, end, PATTERN_SIZE))
                session.ram.write(addr, b"".join(pages))
        session.commit(session.state)
