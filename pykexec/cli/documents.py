"""Reports as the values of pykexec/documents, which are what JSON has.

No pointers, no time stamps, no paths but those the user gave: two runs give the same bytes.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from pykexec.documents.base import CheckResult, Span, span, spans
from pykexec.documents.error import ErrorDocument, Reason
from pykexec.documents.load import FileLoad, Kernel, Syscall, Word
from pykexec.documents.plan import (
    Console,
    Headers,
    Lack,
    MapEntry,
    PlanDocument,
    PlannedRun,
    PlannedSegment,
    Replaced,
)
from pykexec.documents.status import CapturedDump, Staged, Started, Status, Unload

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pykexec.cli.reports import (
        FileLoadReport,
        LoadReport,
        StagedReport,
        StartedReport,
        StatusReport,
        UnloadReport,
    )
    from pykexec.errors import KexecError
    from pykexec.images.kernel_image import KernelImage
    from pykexec.memory.map import MemoryMap
    from pykexec.placement.bind import BoundPlan
    from pykexec.placement.cmdline import CommandLine
    from pykexec.placement.granted import Granted
    from pykexec.placement.kernel_rules import Check
    from pykexec.placement.plan import Plan
    from pykexec.placement.segment import Segment
    from pykexec.placement.syscall_choice import SyscallChoice

ADDRESS_FACTS = frozenset({"addr", "elfcorehdr", "entry", "start", "end", "mem", "paddr"})
"""Facts of errors that are addresses though they are plain integers."""
OWN_KEYS = frozenset({"code", "message", "hint"})
"""Of an error; a fact of the same name is not shown."""


def error_document(error: KexecError) -> ErrorDocument:
    facts = {
        name: fact(hex(value) if name in ADDRESS_FACTS and type(value) is int else value)
        for name, value in error.facts.items()
        if name not in OWN_KEYS and not (name == "details" and error.details)
    }
    return ErrorDocument(Reason(error.code, error.message, error.hint, error.details, facts))


def fact(value: object) -> object:
    """What JSON has no type for, as the text that a message would have."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, (tuple, list, set, frozenset)):
        return [fact(item) for item in value]
    return str(value.value) if isinstance(value, Enum) else str(value)


def map_entries(memory_map: MemoryMap) -> tuple[MapEntry, ...]:
    """As the firmware has it, then RAM that drivers added, whatever the firmware calls it."""
    from pykexec.memory.map import DRIVER_RAM

    return (
        *(MapEntry(i.range.start, i.range.end, str(i.type)) for i in memory_map.ranges),
        *(MapEntry(item.start, item.end, DRIVER_RAM) for item in memory_map.driver_ram),
    )


def load(report: LoadReport) -> PlanDocument:
    from pykexec.abi.kexec import flag_names
    from pykexec.placement.plan import mode_of

    plan, granted = report.planned.plan, report.granted
    mode = mode_of(plan)
    bound = report.done.bound if report.done else None
    return PlanDocument(
        backend=report.target.backend,
        image=plan.request.kind.value,
        mode=mode.value if mode else None,
        state="bound" if bound else "requested",
        entry=plan.entry,
        flags=tuple(flag_names(plan.flags)),
        kernel=kernel(plan.image),
        cmdline=str(plan.cmdline),
        cmdline_words=words(plan.cmdline),
        console=Console(plan.console.port or None, plan.console.why),
        window=span(plan.window) if plan.window else None,
        segments=segments(report.planned.table.segments),
        memory_map=map_entries(plan.memory_map),
        next_memory_map=map_entries(plan.next_map),
        reservation=reservation(report),
        checks=checks(report.planned.checks),
        backup_map=backup_map(bound) if bound else None,
        elfcorehdr=headers(bound) if bound else None,
        syscall=syscall(report.syscall) if report.syscall else None,
        lacking=lacking(granted) if granted else None,
        replaced=replaced(granted) if granted else None,
        stage=stage(plan),
    )


def reservation(report: LoadReport) -> tuple[Span, ...] | None:
    """The regions of crashkernel=, which no dump holds; None where they are unknown."""
    from pykexec.machine import Unknown

    regions = report.machine.crash_kernel
    return None if isinstance(regions, Unknown) else spans(regions)


def lacking(granted: Granted) -> tuple[Lack, ...] | None:
    return tuple(Lack(mode.value, why) for mode, why in granted.lacking) or None


def replaced(granted: Granted) -> Replaced | None:
    if not granted.replaced:
        return None
    return Replaced(not granted.replaced.gap, granted.replaced.gap or None)


def stage(plan: Plan) -> tuple[PlannedSegment, ...] | None:
    """What waits for a panic."""
    from pykexec.cli import pages
    from pykexec.placement.plan import PanicPlan

    if not isinstance(plan, PanicPlan):
        return None
    return segments(item.segment for item in pages.staged(plan))


def words(line: CommandLine) -> tuple[Word, ...]:
    """The words in their order, then those of the running kernel's line that were dropped."""
    return (
        *(Word(word.text, word.origin.value, None) for word in line.words),
        *(Word(item.text, item.origin.value, item.why) for item in line.dropped),
    )


def syscall(choice: SyscallChoice) -> Syscall:
    return Syscall("kexec_file_load" if choice.is_file else "kexec_load", choice.why)


def file_load(report: FileLoadReport) -> FileLoad:
    plan = report.plan
    return FileLoad(
        backend=report.target.backend,
        image=plan.slot.value,
        state="loaded" if report.loaded else "requested",
        flags=tuple(str(flag.name) for flag in plan.flags),
        kernel=kernel(plan.image),
        cmdline=str(plan.cmdline),
        cmdline_words=words(plan.cmdline),
        syscall=syscall(report.syscall),
    )


def kernel(image: KernelImage) -> Kernel:
    """`sha256` is None where there is no file, or where it has changed since it was loaded."""
    from pykexec.images.contents import UnreadableFile

    try:
        digest = image.file.sha256.hex() if image.file else None
    except UnreadableFile:
        digest = None
    return Kernel(image.type, image.version, digest)


def segments(items: Iterable[Segment]) -> tuple[PlannedSegment, ...]:
    return tuple(segment(number, item) for number, item in enumerate(items))


def segment(number: int, item: Segment) -> PlannedSegment:
    return PlannedSegment(
        no=number,
        name=item.name,
        source=item.source.value,
        bufsz=item.bufsz,
        mem=item.mem,
        memsz=item.memsz,
        sha256=item.buf.sha256.hex() if item.buf else None,
        why=item.why,
    )


def checks(items: Iterable[Check]) -> tuple[CheckResult, ...]:
    return tuple(CheckResult(item.rule, item.ok, item.detail) for item in items)


def backup_map(bound: BoundPlan) -> tuple[PlannedRun, ...]:
    return tuple(PlannedRun(run.dest, run.source, run.size) for run in bound.backup_map)


def headers(bound: BoundPlan) -> Headers:
    return Headers(bound.headers_at.start, bound.headers_at.size, bound.program_headers)


def status(report: StatusReport) -> Status:
    from pykexec.backends.backend import Slot

    return Status(
        report.target.backend,
        report.slots[Slot.NORMAL].value,
        report.slots[Slot.CRASH].value,
        staged(report.staged) if report.staged else None,
    )


def staged(report: StagedReport) -> Staged:
    record = report.record
    return Staged(
        mode=record.mode.value,
        slot=record.slot.value,
        kernel=record.kernel,
        release=record.release,
        modules=record.modules,
        modules_match=record.modules_match,
        since=record.since,
        window=span(record.window),
        huge_pages=report.huge_pages,
        problem=report.problem,
    )


def started(report: StartedReport) -> Started:
    switched = report.switched
    return Started(
        report.target.backend,
        report.how,
        switched.cmdline,
        spans(switched.checked),
        CapturedDump(switched.vmcore_size, switched.loads) if switched.vmcore else None,
    )


def unload(report: UnloadReport) -> Unload:
    return Unload(report.target.backend, report.slot.value, report.was.value)
