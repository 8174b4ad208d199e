"""pykexec.plan/1, written by `load --json`, and reading one from an arbitrary file."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pykexec.crash.backup_map import BackupMap, BackupRun
from pykexec.documents.base import (
    BackendName,
    CheckResult,
    Count,
    Hex,
    ModeName,
    Number,
    Sha256,
    Span,
)
from pykexec.documents.load import Kernel, Syscall, Word
from pykexec.errors import KexecError
from pykexec.images.contents import OpenFile
from pykexec.images.what_is_it import Role, what_is_it
from pykexec.memory.ranges import PhysRange

PLAN_MAX = 64 << 20
"""Bytes: a bound plan has a line for each of at most 65,535 runs of backup pages."""
PAGE_BYTES = Number(4096, 65536)
WRITTEN_BY = "use pykexec load --dry-run --json to write a plan"


OF_OLDER_PLANS = {
    "cmdline_words": [],
    "console": {"port": None, "why": ""},
    "next_memory_map": [],
}
"""Keys that older plans lack, with values for which diff shows nothing."""


class BadPlan(KexecError):
    """A file that is not a pykexec.plan/1, or not the required one."""

    code = "bad-plan"
    usual_hint = WRITTEN_BY


@dataclass(frozen=True, slots=True)
class Console:
    """where the stub writes"""

    port: Hex | None
    """an I/O port, or the address of a memory-mapped UART; null if it is silent"""
    why: str


@dataclass(frozen=True, slots=True)
class Settle:
    """how long the stub waits between its checks and the exchange"""

    seconds: Count
    clock: Literal["tsc", "timer", "counter"]
    why: str


@dataclass(frozen=True, slots=True)
class PlannedSegment:
    """a segment of kexec_load(2), or one in the stage"""

    no: Count
    name: str
    source: Literal["file", "built", "memory-only"]
    """whether its bytes come from a file, were built for this load, or do not exist"""
    bufsz: Count
    mem: Hex
    memsz: Count
    sha256: Sha256 | None
    why: str

    @property
    def range(self) -> PhysRange:
        """Raises BadRange."""
        return PhysRange.sized(self.mem, self.memsz)


@dataclass(frozen=True, slots=True)
class MapEntry:
    """a range of a memory map"""

    start: Hex
    end: Hex
    type: str
    """as in /proc/iomem; "System RAM (driver)" was added by virtio_mem or kmem"""

    @property
    def range(self) -> PhysRange:
        """Raises BadRange."""
        return PhysRange(self.start, self.end)


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """size bytes that belong at dest and are at source after the switch"""

    dest: Hex
    source: Hex
    size: Count


@dataclass(frozen=True, slots=True)
class Headers:
    """the ELF core headers of a bound plan"""

    addr: Hex
    size: Count
    program_headers: Count

    @property
    def range(self) -> PhysRange:
        """Raises BadRange."""
        return PhysRange.sized(self.addr, self.size)


@dataclass(frozen=True, slots=True)
class Lack:
    """a mode that was not chosen"""

    mode: ModeName
    why: str


@dataclass(frozen=True, slots=True)
class Replaced:
    """how an armed crash by normal was replaced by this one"""

    stayed_armed: bool
    why: str | None


@dataclass(frozen=True, slots=True)
class PlanDocument:
    """what load decided and did"""

    schema: ClassVar[str] = "pykexec.plan/1"
    backend: BackendName
    image: Literal["normal", "crash", "crash-by-normal"]
    mode: ModeName | None
    state: Literal["requested", "bound"]
    """bound once the backup pages are known"""
    entry: Hex
    flags: tuple[str, ...]
    kernel: Kernel
    cmdline: str
    cmdline_words: tuple[Word, ...]
    console: Console
    window: Span | None
    segments: tuple[PlannedSegment, ...]
    memory_map: tuple[MapEntry, ...]
    next_memory_map: tuple[MapEntry, ...]
    """the map for the next kernel; empty for an image that gets none"""
    reservation: tuple[Span, ...] | None
    """the regions of crashkernel=; null if unknown"""
    checks: tuple[CheckResult, ...]
    backup_map: tuple[PlannedRun, ...] | None = None
    elfcorehdr: Headers | None = None
    syscall: Syscall | None = None
    lacking: tuple[Lack, ...] | None = None
    replaced: Replaced | None = None
    stage: tuple[PlannedSegment, ...] | None = None
    settle: Settle | None = None
    lent: tuple[Span, ...] = ()
    """of the window; in use until the panic, and not in the dump"""
    page_size: Annotated[int, PAGE_BYTES] = 4096
    """bytes of a page of the running kernel"""


def read_plan(path: str | os.PathLike[str]) -> PlanDocument:
    """The complete document of a load. Raises UnreadableFile, BadPlan."""
    file = OpenFile(path)
    if file.size > PLAN_MAX:
        raise BadPlan(f"{path}: {file.size} bytes; a plan has at most {PLAN_MAX}")
    try:
        found = json.loads(file.read(0, file.size))
    except (ValueError, RecursionError) as error:
        raise BadPlan(f"{path}: not a plan{_instead(file) or ': not valid JSON'}") from error
    return plan_of(found, str(path))


def _instead(file: OpenFile) -> str:
    """For a kernel or an initrd, which a user may have given instead of its plan."""
    known = what_is_it(file)
    return f", but {known.what}" if known and known.role is not Role.NEITHER else ""


def plan_of(found: object, name: str) -> PlanDocument:
    """A plan from arbitrary parsed JSON; `name` is for messages. Raises BadPlan."""
    from pykexec.documents.codec import decode

    if not isinstance(found, dict) or found.get("schema") != PlanDocument.schema:
        raise BadPlan(f"{name}: not a plan: its schema is not {PlanDocument.schema}")
    try:
        return decode(PlanDocument, OF_OLDER_PLANS | found)
    except ValueError as error:
        raise BadPlan(f"{name}: incomplete plan: {error}"[:300]) from error


def backup_map_of(plan: PlanDocument) -> BackupMap:
    """The backup map of a bound plan; empty for another. Raises BadRange."""
    return BackupMap.of(BackupRun(run.dest, run.source, run.size) for run in plan.backup_map or ())
