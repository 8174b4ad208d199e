"""pykexec.plan/1, which `load --json` writes, and reading one: a file may hold anything."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pykexec.crash.backup_map import BackupMap, BackupRun
from pykexec.documents.base import BackendName, CheckResult, Count, Hex, ModeName, Sha256, Span
from pykexec.documents.load import Kernel, Syscall, Word
from pykexec.errors import KexecError
from pykexec.images.contents import OpenFile
from pykexec.memory.ranges import PhysRange

PLAN_MAX = 64 << 20
"""Bytes: a bound plan has a line for each of at most 65,535 runs of backup pages."""
WRITTEN_BY = "pykexec load --dry-run --json writes one"


class BadPlan(KexecError):
    """A file that is no pykexec.plan/1, or not the one that is needed."""

    code = "bad-plan"
    usual_hint = WRITTEN_BY


@dataclass(frozen=True, slots=True)
class Console:
    """where the stub writes"""

    port: Hex | None
    """null where it is silent"""
    why: str


@dataclass(frozen=True, slots=True)
class PlannedSegment:
    """one of kexec_load(2), or one that waits in the stage"""

    no: Count
    name: str
    source: Literal["file", "built", "memory-only"]
    """whether its bytes are those of a file, made for this load, or none"""
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
    """as /proc/iomem spells it; "System RAM (driver)" is what virtio_mem or kmem added"""

    @property
    def range(self) -> PhysRange:
        """Raises BadRange."""
        return PhysRange(self.start, self.end)


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """size bytes that belong at dest lie at source after the switch"""

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
    """how an armed crash by normal gave way to this one"""

    stayed_armed: bool
    why: str | None


@dataclass(frozen=True, slots=True)
class PlanDocument:
    """what load decides, and what it did"""

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
    """what the next kernel is given; empty for an image that is given no map"""
    reservation: tuple[Span, ...] | None
    """the regions of crashkernel=; null where unknown"""
    checks: tuple[CheckResult, ...]
    backup_map: tuple[PlannedRun, ...] | None = None
    elfcorehdr: Headers | None = None
    syscall: Syscall | None = None
    lacking: tuple[Lack, ...] | None = None
    replaced: Replaced | None = None
    stage: tuple[PlannedSegment, ...] | None = None


def read_plan(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Of its fields nothing is known yet but the schema. Raises UnreadableFile, BadPlan."""
    file = OpenFile(path)
    if file.size > PLAN_MAX:
        raise BadPlan(f"{path}: {file.size} bytes, a plan has at most {PLAN_MAX}")
    try:
        document = json.loads(file.read(0, file.size))
    except (ValueError, RecursionError) as error:
        raise BadPlan(f"{path}: not a plan: {error}") from error
    if not isinstance(document, dict) or document.get("schema") != PlanDocument.schema:
        raise BadPlan(f"{path}: not a plan: its schema is not {PlanDocument.schema}")
    return document


def span_of(item: dict[str, Any]) -> PhysRange:
    """{start, end}. Raises KeyError, TypeError, ValueError, BadRange."""
    return PhysRange(number(item["start"]), number(item["end"]))


def whole(value: object) -> int:
    """A number of a document that is neither a truth value nor a fraction. Raises TypeError."""
    if type(value) is not int:
        raise TypeError(f"expected a number, found {value!r}")
    return value


def backup_map_of(document: dict[str, Any]) -> BackupMap:
    """Of a bound plan. Raises KeyError, TypeError, ValueError, BadRange."""
    return BackupMap.of(
        BackupRun(number(run["dest"]), number(run["source"]), whole(run["size"]))
        for run in document["backup_map"]
    )


def number(text: Any) -> int:
    """A hex string of a document. Raises TypeError, ValueError."""
    if not isinstance(text, str):
        raise TypeError(f"expected a hex string, found {text!r}")
    return int(text, 16)
