"""The document of what a dump shows about a crash."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.documents.report import (
    BlockedTask,
    CrashReport,
    LargeTask,
    Problem,
    ReportedArmed,
    ReportedCpu,
    ReportedDump,
    ReportedFrame,
    ReportedLog,
    ReportedMemory,
    ReportedModule,
    ReportedPanic,
    ReportedSystem,
    ReportedTaint,
    ReportedTask,
    ReportedTasks,
    Reserved,
)
from pykexec.dump.taint import taint_words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pykexec.dump.panic import LogEnd
    from pykexec.dump.report import Armed, Blocked, Cpu, Report, System, Tasks
    from pykexec.dump.stacks import Frame
    from pykexec.dump.tasks import Task


def crash_document(report: Report) -> CrashReport:
    """A section is None if it cannot be read, and `problems` has the reason."""
    dump, log, modules, memory = report.dump, report.log, report.modules, report.memory
    return CrashReport(
        dump=ReportedDump(dump.format, dump.file_size, dump.info_source),
        system=system(report.system, log) if report.system else None,
        panic=panic(report),
        taint=None if report.taint is None else taint(report.taint),
        cpus=None if report.cpus is None else tuple(map(cpu, report.cpus)),
        tasks=tasks(report.tasks) if report.tasks else None,
        memory=ReportedMemory(memory.total, memory.counters) if memory else None,
        modules=None
        if modules is None
        else tuple(ReportedModule(item.name, item.size, item.taint) for item in modules),
        armed=armed(report.armed) if report.armed else None,
        log=None if log is None else ReportedLog(log.records, tuple(map(text, log.lines))),
        problems=tuple(Problem(name, why) for name, why in report.problems),
    )


def panic(report: Report) -> ReportedPanic:
    log = report.log
    return ReportedPanic(
        log.message if log else None,
        log.cause if log else None,
        report.panic_cpu,
        task(report.panic_task) if report.panic_task else None,
    )


def taint(mask: int) -> ReportedTaint:
    return ReportedTaint(mask, tuple(taint_words(mask)))


def system(found: System, log: LogEnd | None) -> ReportedSystem:
    uptime = log.nanoseconds if log else None
    return ReportedSystem(
        release=found.release,
        version=found.version,
        hostname=found.hostname,
        hardware=found.hardware,
        cpus=found.cpus,
        uptime=None if uptime is None else uptime // 1000 / 1_000_000,
        crashed=found.crashed.isoformat() if found.crashed else None,
    )


def task(found: Task) -> ReportedTask:
    return ReportedTask(found.pid, found.tgid, found.parent, found.comm, found.state)


def cpu(found: Cpu) -> ReportedCpu:
    return ReportedCpu(
        found.number,
        task(found.task) if found.task else None,
        dict(found.registers.values) if found.registers else None,
        frames(found.frames),
    )


def frames(found: Iterable[Frame]) -> tuple[ReportedFrame, ...]:
    return tuple(map(frame, found))


def frame(found: Frame) -> ReportedFrame:
    place = found.place
    return ReportedFrame(
        found.ip,
        place.name if place else None,
        place.offset if place else None,
        (place.module or None) if place else None,
        found.guess,
    )


def tasks(found: Tasks) -> ReportedTasks:
    return ReportedTasks(
        found.processes,
        found.threads,
        tuple(map(_blocked, found.blocked)),
        tuple(large(item, resident) for item, resident in found.largest),
    )


def _blocked(found: Blocked) -> BlockedTask:
    item = found.task
    return BlockedTask(
        item.pid, item.tgid, item.parent, item.comm, item.state, frames(found.frames)
    )


def large(item: Task, resident: int) -> LargeTask:
    return LargeTask(item.pid, item.tgid, item.parent, item.comm, item.state, resident)


def armed(found: Armed) -> ReportedArmed:
    note = found.note
    return ReportedArmed(
        _range(found.reserved),
        found.entry is not None,
        found.entry,
        found.segments,
        note.mode if note else None,
        _range(note.window if note else None),
        note.wait if note else None,
        note.lent if note else None,
    )


def _range(span: tuple[int, int] | None) -> Reserved | None:
    return Reserved(span[0], span[1] - span[0]) if span else None


def text(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace")
