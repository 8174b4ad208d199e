"""pykexec.report/1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pykexec.documents.base import Choice, Hex

SOURCE = Choice(("note", "memory"))


@dataclass(frozen=True, slots=True)
class ReportedDump:
    """the file"""

    format: str
    size: int
    """bytes of the file"""
    vmcoreinfo: Annotated[str, SOURCE]
    """where it was found"""


@dataclass(frozen=True, slots=True)
class ReportedSystem:
    """the machine, and its kernel"""

    release: str
    version: str | None
    hostname: str | None
    hardware: str | None
    cpus: int | None
    """the maximum number of CPUs in this kernel"""
    uptime: float | None
    """seconds up to the last log record"""
    crashed: str | None
    """ISO 8601, UTC; only in a dump by a capture kernel"""


@dataclass(frozen=True, slots=True)
class ReportedTask:
    """a thread, or a process"""

    pid: int
    tgid: int
    """PID of its process"""
    parent: int
    """PID of the process that started it"""
    comm: str
    state: str
    """the letter of ps(1)"""


@dataclass(frozen=True, slots=True)
class ReportedPanic:
    """what ended the kernel"""

    message: str | None
    """null for a log without a panic"""
    cause: str | None
    """the line of the log that led to the panic"""
    cpu: int | None
    task: ReportedTask | None


@dataclass(frozen=True, slots=True)
class ReportedTaint:
    """why the kernel was tainted"""

    mask: Hex
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReportedFrame:
    """a function that has not returned"""

    address: Hex
    symbol: str | None
    offset: int | None
    module: str | None
    """null in the kernel's image"""
    guess: bool
    """an address found on the stack, possibly of an older call"""


@dataclass(frozen=True, slots=True)
class ReportedCpu:
    """a CPU, and what it was running"""

    cpu: int
    task: ReportedTask | None
    registers: dict[str, Hex] | None
    """null if they were not saved"""
    backtrace: tuple[ReportedFrame, ...]
    """innermost first"""


@dataclass(frozen=True, slots=True)
class BlockedTask(ReportedTask):
    """a thread in uninterruptible sleep"""

    backtrace: tuple[ReportedFrame, ...]
    """innermost first"""


@dataclass(frozen=True, slots=True)
class LargeTask(ReportedTask):
    """a process with much memory"""

    resident: int
    """bytes"""


@dataclass(frozen=True, slots=True)
class ReportedTasks:
    """all tasks that were read"""

    processes: int
    threads: int
    blocked: tuple[BlockedTask, ...]
    """in uninterruptible sleep"""
    largest: tuple[LargeTask, ...]
    """processes by resident memory"""


@dataclass(frozen=True, slots=True)
class ReportedMemory:
    """bytes; counters as far as the kernel has them"""

    total: int
    more: dict[str, int]

    def __post_serialize__(self, found: dict[str, Any]) -> dict[str, Any]:
        more: dict[str, Any] = found.pop("more", {})
        return found | more


@dataclass(frozen=True, slots=True)
class ReportedModule:
    """a kernel module"""

    name: str
    size: int
    """bytes"""
    taint: str
    """letters as in /proc/modules"""


@dataclass(frozen=True, slots=True)
class Reserved:
    """a range of memory"""

    start: Hex
    size: int


@dataclass(frozen=True, slots=True)
class ReportedArmed:
    """what was loaded into the crash slot"""

    reserved: Reserved | None
    """null if no memory was reserved"""
    loaded: bool
    entry: Hex | None
    segments: int | None
    mode: str | None
    """of a crash by normal; null for any other load, and in dumps of other programs' headers"""
    window: Reserved | None
    """the memory that the capture kernel moved into"""
    wait: int | None
    """seconds before anything was moved"""
    lent: int | None
    """bytes of user memory that the window overwrote"""


@dataclass(frozen=True, slots=True)
class ReportedLog:
    """the end of the log"""

    records: int
    last: tuple[str, ...]
    r"""lines; a byte that is not UTF-8 is shown as \xNN"""


@dataclass(frozen=True, slots=True)
class Problem:
    """a section that cannot be read, or a part of it"""

    section: str
    reason: str


@dataclass(frozen=True, slots=True)
class CrashReport:
    """what a dump shows about a crash"""

    schema: ClassVar[str] = "pykexec.report/1"
    dump: ReportedDump
    system: ReportedSystem | None
    """null if it cannot be read, like every section; the reason is in problems"""
    panic: ReportedPanic
    taint: ReportedTaint | None
    cpus: tuple[ReportedCpu, ...] | None
    tasks: ReportedTasks | None
    memory: ReportedMemory | None
    modules: tuple[ReportedModule, ...] | None
    armed: ReportedArmed | None
    """what was loaded into the crash slot"""
    log: ReportedLog | None
    problems: tuple[Problem, ...]
    """what could not be read; a section that is not null may have a part missing"""
