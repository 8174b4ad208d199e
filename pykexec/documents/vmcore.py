"""pykexec.vmcore/1, pykexec.dump/1 and pykexec.rehearsal/1: dumps, unchecked and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pykexec.documents.base import CheckResult, Choice, Count, Hex, Number, Span
from pykexec.documents.load import Kernel

ENGINE = Choice(("simulated", "qemu"))
ALLOCATOR = Choice(("random", "lowest", "highest", "fragmented"))
REHEARSED = Choice(("flag", "lent", "stub-swap", "in-place"))
RELOCATE = Choice(("swap", "copy"))
Percent = Annotated[int, Number(0, 100)]


@dataclass(frozen=True, slots=True)
class DumpCpu:
    """what a CPU was running, from its note; a CPU that did not stop has none"""

    pid: Count
    ip: Hex


@dataclass(frozen=True, slots=True)
class Patterns:
    """self-describing pages"""

    right: Count
    copies: Count
    lost: Count
    broken: Count
    first_bad: Hex | None


@dataclass(frozen=True, slots=True)
class Vmcore:
    """a dump; the last three keys only with verify"""

    schema: ClassVar[str] = "pykexec.vmcore/1"
    size: Count
    program_headers: Count
    loads: Count
    cpus: tuple[DumpCpu, ...]
    vmcoreinfo: dict[str, str] | None
    page_offset: Hex | None
    memory: tuple[Span, ...]
    """whose bytes are in the file"""
    without_contents: tuple[Span, ...]
    """listed by a PT_LOAD (p_memsz), and not in the file (p_filesz)"""
    whole: bool | None = None
    checks: tuple[CheckResult, ...] | None = None
    pattern_pages: Patterns | Literal["not counted"] | None = "not counted"
    """null if no page describes itself"""


@dataclass(frozen=True, slots=True)
class DumpFile:
    """a dump that is not a plain ELF core; the last two keys only with verify"""

    schema: ClassVar[str] = "pykexec.dump/1"
    format: str
    size: Count
    level: int | None
    """dump level of makedumpfile; null if the file does not record it"""
    cpus: tuple[DumpCpu, ...]
    vmcoreinfo: dict[str, str] | None
    memory: tuple[Span, ...]
    """whose bytes are in the file"""
    left_out: tuple[Span, ...]
    """listed as memory, and not in the file"""
    whole: bool | None = None
    checks: tuple[CheckResult, ...] | None = None


@dataclass(frozen=True, slots=True)
class SimulatedStage:
    """--engine simulated"""

    memory: Count
    used: Percent
    """percent"""
    allocator: Annotated[str, ALLOCATOR]
    relocate: Annotated[str, RELOCATE]
    seed: int


@dataclass(frozen=True, slots=True)
class RealStage:
    """--engine qemu"""

    memory: Count
    used: Percent
    """percent"""
    cpus: Count
    reserved: Count
    """bytes of crashkernel="""


@dataclass(frozen=True, slots=True)
class RehearsalDocument:
    """a crash by normal from end to end"""

    schema: ClassVar[str] = "pykexec.rehearsal/1"
    engine: Annotated[str, ENGINE]
    good: bool
    kernel: Kernel
    machine: SimulatedStage | RealStage
    mode: Annotated[str, REHEARSED]
    window: Span | None
    backup_pages: Count
    backup_runs: Count
    program_headers: Count
    filled_pages: Count
    pattern_pages: Patterns
    checks: tuple[CheckResult, ...]
