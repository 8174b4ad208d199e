"""The result of `vmcore report`: what a dump shows about a crash."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykexec.cli.out.blocks import Block, Facts, Lines, Table
from pykexec.cli.report.crash_cause_document import crash_document
from pykexec.cli.report.page_parts import Pairs, many, size
from pykexec.dump.log_text import safe
from pykexec.dump.taint import taint_words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pykexec.crash.armed_note import ArmedNote
    from pykexec.documents.report import CrashReport
    from pykexec.dump.modules import Module
    from pykexec.dump.panic import LogEnd
    from pykexec.dump.registers import Registers
    from pykexec.dump.report import Armed, Cpu, Report, Tasks
    from pykexec.dump.stacks import Frame
    from pykexec.dump.tasks import Task

UNKNOWN = "unknown, see below"
INDENT = "    "
REGISTERS_A_LINE = 3


@dataclass(frozen=True)
class CrashCauseReport:
    """The cause of a crash; a section that cannot be read is named with the reason."""

    found: Report

    def document(self) -> CrashReport:
        return crash_document(self.found)

    def page(self, verbose: int) -> list[Block]:
        report = self.found
        page: list[Block] = [Facts([*_panic_facts(report), *_system_facts(report)])]
        for cpu in report.cpus or ():
            page.append(Lines(list(_cpu_lines(cpu, report.panic_cpu, verbose))))
        if report.tasks:
            page += _task_blocks(report.tasks)
        if report.modules:
            page += _module_blocks(report.modules, verbose)
        if report.log:
            page.append(Lines(list(last(report.log))))
        if report.problems:
            lines = [f"{INDENT}{name}: {why}" for name, why in dict.fromkeys(report.problems)]
            page.append(Lines(["could not be read:", *lines], "bold red"))
        return page


def _panic_facts(report: Report) -> Pairs:
    log = report.log
    facts = []
    if log and (log.message or not log.cause):
        facts.append(("panic", log.message or "the log has no panic"))
    if log is None:
        facts.append(("panic", UNKNOWN))
    if log and log.cause:
        facts.append(("cause", log.cause))
    if report.panic_cpu is not None:
        task = report.panic_task
        what = f", {_task_name(task)}" if task else ""
        facts.append(("panicked", f"CPU {report.panic_cpu}{what}"))
    return facts


def _system_facts(report: Report) -> Pairs:
    system, dump = report.system, report.dump
    facts = []
    if system:
        facts.append(("release", f"{system.release} {system.version or ''}".rstrip()))
        facts.append(("machine", system.hardware or UNKNOWN))
        facts.append(("host", system.hostname or UNKNOWN))
        facts += [("CPUs", str(system.cpus))] if system.cpus else []
        facts += [("crashed", f"{system.crashed:%Y-%m-%d %H:%M:%S} UTC")] if system.crashed else []
    else:
        facts.append(("release", UNKNOWN))
    if report.log and report.log.nanoseconds is not None:
        facts.append(("uptime", f"{_duration(report.log.nanoseconds)}, by the last log record"))
    words = [UNKNOWN] if report.taint is None else taint_words(report.taint) or ["not tainted"]
    facts += [("taint" if not at else "", word) for at, word in enumerate(words)]
    if report.memory:
        named = [
            f"{name.replace('_', ' ')} {size(n)}" for name, n in report.memory.counters.items()
        ]
        facts.append(("memory", ", ".join((f"total {size(report.memory.total)}", *named))))
    facts.append(("armed", _armed_line(report.armed)))
    where = "" if dump.info_source == "note" else ", VMCOREINFO found in memory"
    facts.append(("dump", f"{dump.format}, {size(dump.file_size)}{where}"))
    return facts


def _armed_line(armed: Armed | None) -> str:
    if armed is None:
        return UNKNOWN
    reserved = armed.reserved
    room = f"{size(reserved[1] - reserved[0])} reserved at {reserved[0]:#x}" if reserved else ""
    if armed.entry is None:
        return f"no crash kernel was loaded; {room or 'no memory was reserved'}"
    image = f"crash kernel of {many(armed.segments or 0, 'segment')}, entry {armed.entry:#x}"
    how = _by_normal(armed.note) if armed.note else ""
    return f"{how}{image}; {room or 'no memory was reserved'}"


def _by_normal(note: ArmedNote) -> str:
    start, end = note.window
    wait = f", wait {note.wait} s" if note.wait else ""
    lent = f", {size(note.lent)} lent" if note.lent else ""
    return f"{note.mode}, window {size(end - start)} at {start:#x}{wait}{lent}; "


def _duration(nanoseconds: int) -> str:
    """Days, hours, minutes and seconds, without leading zeros."""
    seconds = nanoseconds // 10**9
    days, rest = divmod(seconds, 86400)
    hours, minutes = rest // 3600, rest // 60 % 60
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (seconds % 60, "s")]
    while len(parts) > 1 and not parts[0][0]:
        del parts[0]
    return " ".join(f"{number} {unit}" for number, unit in parts)


def _task_name(task: Task) -> str:
    return f"{task.comm} (PID {task.pid})"


def _cpu_lines(cpu: Cpu, panicked: int | None, verbose: int) -> Iterator[str]:
    task = _task_name(cpu.task) if cpu.task else "task unknown"
    yield f"CPU {cpu.number}: {task}{', panicked' if cpu.number == panicked else ''}"
    if not cpu.registers:
        yield f"{INDENT}its registers were not saved"
        return
    if verbose:
        yield from _register_lines(cpu.registers)
    yield from trace(cpu.frames, verbose)


def _register_lines(registers: Registers) -> Iterator[str]:
    cells = [f"{name:>8} {value:016x}" for name, value in registers.values.items()]
    for at in range(0, len(cells), REGISTERS_A_LINE):
        yield INDENT + " ".join(cells[at : at + REGISTERS_A_LINE])


def trace(frames: list[Frame], verbose: int = 0) -> Iterator[str]:
    """Innermost first; "?" before a guess, as in the kernel's backtraces."""
    for frame in frames:
        yield f"{INDENT}{frame}"
        if frame.registers and frame is not frames[0]:
            yield f"{INDENT}  (interrupted here)"


def _task_blocks(tasks: Tasks) -> Iterator[Block]:
    processes = "1 process" if tasks.processes == 1 else f"{tasks.processes} processes"
    counts = f"{processes}, {many(tasks.threads, 'thread')}"
    if not tasks.blocked:
        yield Lines([f"{counts}, none blocked"])
    else:
        yield Lines([f"{counts}, {len(tasks.blocked)} blocked (D):"])
    for item in tasks.blocked:
        yield Lines([_task_name(item.task), *trace(item.frames)])
    rows = [(str(task.pid), size(resident), task.comm) for task, resident in tasks.largest]
    if rows:
        yield Table(("PID", "resident", "process"), rows)


def _module_blocks(modules: list[Module], verbose: int) -> Iterator[Block]:
    """All modules with `verbose`, otherwise those that taint the kernel."""
    tainting = [module for module in modules if module.taint]
    shown = modules if verbose else tainting
    yield Lines([f"{many(len(modules), 'module')}, {len(tainting)} of which taint the kernel"])
    if shown:
        yield Table(
            ("module", "size", "taint"),
            [(module.name, size(module.size), module.taint or "-") for module in shown],
        )


def last(log: LogEnd) -> Iterator[str]:
    yield f"last of {many(log.records, 'log record')}:"
    for line in log.lines:
        yield safe(line)
