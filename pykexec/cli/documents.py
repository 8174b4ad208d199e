"""Values as JSON documents, keys in a fixed order; the schemas are in pykexec/schemas.

Addresses are hex strings, sizes and counts are integers. No pointers, no time stamps,
no paths but those the user gave: two runs give the same bytes.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import TYPE_CHECKING, Any

from pykexec.errors import escaped

if TYPE_CHECKING:
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
    from pykexec.memory.ranges import PhysRange, RangeSet
    from pykexec.placement.bind import BoundPlan
    from pykexec.placement.cmdline import CommandLine
    from pykexec.placement.kernel_rules import Check
    from pykexec.placement.segment import Segment
    from pykexec.placement.syscall_choice import SyscallChoice

Document = dict[str, Any]

ADDRESS_FACTS = frozenset({"addr", "elfcorehdr", "entry", "start", "end", "mem", "paddr"})
"""Facts of errors that are addresses though they are plain integers."""


def encode(document: Document) -> str:
    """The text of a document, with the newline at its end."""
    text = json.dumps(document, indent=2)
    if SURROGATE in text:
        text = json.dumps(unicode_only(document), indent=2)
    return text + "\n"


SURROGATE = "\\ud"
"""How the escape of every surrogate begins, one of a pair too."""


def unicode_only(value: object) -> object:
    r"""With what no Unicode text has, bytes of a command line or of a file's name, as \xNN: strict
    readers refuse a document with a lone surrogate."""
    match value:
        case dict():
            return {unicode_only(name): unicode_only(item) for name, item in value.items()}
        case list() | tuple():
            return [unicode_only(item) for item in value]
        case str():
            return "".join(escaped(c) if "\ud800" <= c <= "\udfff" else c for c in value)
    return value


def error_document(error: KexecError) -> Document:
    """pykexec.error/1: the facts follow the three fields that are always there, and the details
    where there are any."""
    fields: Document = {"code": error.code, "message": error.message, "hint": error.hint}
    if error.details:
        fields["details"] = list(error.details)
    facts = {
        name: fact(hex(value) if name in ADDRESS_FACTS and type(value) is int else value)
        for name, value in error.facts.items()
        if name not in fields
    }
    return {"schema": "pykexec.error/1", "error": fields | facts}


def fact(value: object) -> object:
    """What JSON has no type for, as the text that a message would have."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, (tuple, list, set, frozenset)):
        return [fact(item) for item in value]
    return str(value.value) if isinstance(value, Enum) else str(value)


def span(item: PhysRange) -> Document:
    """Half-open."""
    return {"start": hex(item.start), "end": hex(item.end)}


def spans(items: RangeSet) -> list[Document]:
    return [span(item) for item in items]


def map_entries(memory_map: MemoryMap) -> list[Document]:
    """As the firmware has it, then RAM that drivers added, whatever the firmware calls it."""
    from pykexec.memory.map import DRIVER_RAM

    return [
        *(span(item.range) | {"type": str(item.type)} for item in memory_map.ranges),
        *(span(item) | {"type": DRIVER_RAM} for item in memory_map.driver_ram),
    ]


def load(report: LoadReport) -> Document:
    """pykexec.plan/1; `state` is "bound" once the backup pages are known."""
    from pykexec.abi.kexec import flag_names
    from pykexec.placement.plan import mode_of

    plan = report.planned.plan
    mode = mode_of(plan)
    bound = report.done.bound if report.done else None
    document = {
        "schema": "pykexec.plan/1",
        "backend": report.target.backend,
        "image": str(plan.request.kind),
        "mode": str(mode) if mode else None,
        "state": "bound" if bound else "requested",
        "entry": hex(plan.entry),
        "flags": flag_names(plan.flags),
        "kernel": kernel(plan.image),
        "cmdline": str(plan.cmdline),
        "cmdline_words": words(plan.cmdline),
        "console": {
            "port": hex(plan.console.port) if plan.console.port else None,
            "why": plan.console.why,
        },
        "window": span(plan.window) if plan.window else None,
        "segments": [segment(*pair) for pair in enumerate(report.planned.table.segments)],
        "memory_map": map_entries(plan.memory_map),
        "next_memory_map": map_entries(plan.next_map),
        "reservation": reservation(report),
        "checks": [check(item) for item in report.planned.checks],
    }
    if bound:
        document |= bound_fields(bound)
    return document | kernel_fields(report)


def reservation(report: LoadReport) -> list[Document] | None:
    """The regions of crashkernel=, which no dump holds; null where they are unknown."""
    from pykexec.machine import Unknown

    regions = report.machine.crash_kernel
    return None if isinstance(regions, Unknown) else spans(regions)


def kernel_fields(report: LoadReport) -> Document:
    """What only the real kernel's loads have."""
    from pykexec.placement.plan import PanicPlan

    plan = report.planned.plan
    found: Document = {}
    if report.syscall:
        found["syscall"] = syscall(report.syscall)
    if report.granted and report.granted.lacking:
        found["lacking"] = [{"mode": str(mode), "why": why} for mode, why in report.granted.lacking]
    if report.granted and report.granted.replaced:
        gap = report.granted.replaced.gap
        found["replaced"] = {"stayed_armed": not gap, "why": gap or None}
    if isinstance(plan, PanicPlan):
        from pykexec.cli import pages

        waiting = enumerate(pages.staged(plan))
        found["stage"] = [segment(no, item.segment) for no, item in waiting]
    return found


def words(line: CommandLine) -> list[Document]:
    """The words in their order, then those of the running kernel's line that were dropped."""
    return [
        *({"text": word.text, "origin": str(word.origin), "dropped": None} for word in line.words),
        *(
            {"text": item.text, "origin": str(item.origin), "dropped": item.why}
            for item in line.dropped
        ),
    ]


def syscall(choice: SyscallChoice) -> Document:
    return {"name": str(choice.syscall), "why": choice.why}


def file_load(report: FileLoadReport) -> Document:
    """pykexec.file-load/1: the kernel places it, and does not say where."""
    plan = report.plan
    return {
        "schema": "pykexec.file-load/1",
        "backend": report.target.backend,
        "image": str(plan.slot),
        "state": "loaded" if report.loaded else "requested",
        "flags": [str(flag.name) for flag in plan.flags],
        "kernel": kernel(plan.image),
        "cmdline": str(plan.cmdline),
        "cmdline_words": words(plan.cmdline),
        "syscall": syscall(report.syscall),
    }


def kernel(image: KernelImage) -> Document:
    """Which kernel it is, wherever it lies: `sha256` is the file's, as sha256sum prints it; null
    where there is none, or where it has changed since it was loaded."""
    from pykexec.images.contents import UnreadableFile

    try:
        digest = image.file.sha256.hex() if image.file else None
    except UnreadableFile:
        digest = None
    return {"type": image.type, "version": image.version, "sha256": digest}


def segment(number: int, item: Segment) -> Document:
    return {
        "no": number,
        "name": item.name,
        "source": str(item.source),
        "bufsz": item.bufsz,
        "mem": hex(item.mem),
        "memsz": item.memsz,
        "sha256": item.buf.sha256.hex() if item.buf else None,
        "why": item.why,
    }


def check(item: Check) -> Document:
    """`ok` is null where a fact is unknown."""
    return {"rule": item.rule, "ok": item.ok, "detail": item.detail}


def bound_fields(bound: BoundPlan) -> Document:
    return {
        "backup_map": [
            {"dest": hex(run.dest), "source": hex(run.source), "size": run.size}
            for run in bound.backup_map
        ],
        "elfcorehdr": {
            "addr": hex(bound.headers_at.start),
            "size": bound.headers_at.size,
            "program_headers": bound.program_headers,
        },
    }


def status(report: StatusReport) -> Document:
    """pykexec.status/1"""
    return {
        "schema": "pykexec.status/1",
        "backend": report.target.backend,
        **{str(slot): str(state) for slot, state in report.slots.items()},
        "staged": staged(report.staged) if report.staged else None,
    }


def staged(report: StagedReport) -> Document:
    """`since` in seconds of the epoch; `problem` is null when all is as it was."""
    record = report.record
    return {
        "mode": str(record.mode),
        "slot": str(record.slot),
        "kernel": record.kernel,
        "release": record.release,
        "modules": list(record.modules),
        "modules_match": record.modules_match,
        "since": record.since,
        "window": span(record.window),
        "huge_pages": report.huge_pages,
        "problem": report.problem,
    }


def started(report: StartedReport) -> Document:
    """pykexec.started/1: what a simulated machine did; `vmcore` is null where the second
    kernel captures nothing."""
    switched = report.switched
    return {
        "schema": "pykexec.started/1",
        "backend": report.target.backend,
        "started": report.how,
        "cmdline": switched.cmdline,
        "checked": [span(item) for item in switched.checked],
        "vmcore": {"size": switched.vmcore_size, "loads": switched.loads}
        if switched.vmcore
        else None,
    }


def unload(report: UnloadReport) -> Document:
    """pykexec.unload/1"""
    return {
        "schema": "pykexec.unload/1",
        "backend": report.target.backend,
        "slot": str(report.slot),
        "was": str(report.was),
    }
