"""pykexec.status/1, pykexec.unload/1 and pykexec.started/1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pykexec.documents.base import BackendName, Count, ModeName, SlotName, Span, StateName


@dataclass(frozen=True, slots=True)
class Staged:
    """what pykexec itself loaded"""

    mode: ModeName
    slot: SlotName
    kernel: str
    release: str | None
    """of the kernel; null if unknown"""
    modules: tuple[str, ...]
    """releases whose modules are in the initrd"""
    modules_match: bool | None
    """whether the kernel's own are among them; null if unknown"""
    since: int
    """seconds since the epoch"""
    window: Span
    lent: tuple[Span, ...]
    """of the window; in use until the panic, and not in the dump"""
    huge_pages: Count
    settle: Count
    """seconds that the stub waits before it moves anything"""
    warnings: tuple[str, ...]
    """what may keep the capture kernel from saving a dump"""
    problem: str | None
    """null if everything is unchanged"""


@dataclass(frozen=True, slots=True)
class SimulatedStatus:
    """the simulated machine that load uses by default; it arms nothing"""

    machine: str
    """its folder"""
    normal: StateName
    crash: StateName


@dataclass(frozen=True, slots=True)
class LastDump:
    """the dump that was saved last"""

    folder: str
    saved: str | None
    """ISO 8601, UTC; null if its status cannot be read"""
    reason: str | None
    """the panic message"""
    complete: bool
    problem: str | None
    """why it is not complete"""


@dataclass(frozen=True, slots=True)
class Status:
    """what is loaded"""

    schema: ClassVar[str] = "pykexec.status/1"
    backend: BackendName
    normal: StateName
    crash: StateName
    staged: Staged | None
    unseen: str | None
    """why it is not known what is staged; null if it is known"""
    simulated: SimulatedStatus | None = None
    """without --backend and --machine, beside the real kernel"""
    last_dump: LastDump | None = None
    """of the real kernel, if one was saved"""
    left_blocks: tuple[str, ...] = ()
    """memory blocks that no image needs, and that unload has to return to the kernel"""
    left_pages: Count = 0
    """huge pages that no image needs, and that unload has to release"""


@dataclass(frozen=True, slots=True)
class Unload:
    """what was freed"""

    schema: ClassVar[str] = "pykexec.unload/1"
    backend: BackendName
    slot: SlotName
    was: StateName
    busy_blocks: tuple[str, ...] = ()
    """memory blocks that stay movable, or offline, until a later unload"""


@dataclass(frozen=True, slots=True)
class CapturedDump:
    """the dump that the second kernel found"""

    size: Count
    loads: Count


@dataclass(frozen=True, slots=True)
class Started:
    """what a simulated machine did"""

    schema: ClassVar[str] = "pykexec.started/1"
    backend: BackendName
    started: Literal["exec", "crash"]
    cmdline: str
    checked: tuple[Span, ...]
    vmcore: CapturedDump | None
    """null if the second kernel captures nothing"""
