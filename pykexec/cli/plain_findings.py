"""What was found out, as plain text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pykexec.abi.kexec import PAGE_SIZE
from pykexec.cli.plain import bound_facts, check_lines, columns, fields, many, segment_table, size

if TYPE_CHECKING:
    from pykexec.cli.reports import (
        CapturedReport,
        DoctorReport,
        ExplainReport,
        MachineReport,
    )
    from pykexec.crash.core_file import CoreFile
    from pykexec.memory.ranges import RangeSet
    from pykexec.rehearse import Rehearsal
    from pykexec.vmcore_check import VmcoreVerdict

Facts = list[tuple[str, str]]


def rehearsal(report: Rehearsal, verbose: int = 0) -> list[str]:
    table = report.load.table
    return [
        *([*segment_table(table), ""] if table else []),
        *fields(rehearsal_facts(report)),
        "",
        *check_lines(report.checks),
        "",
        rehearsal_verdict(report),
    ]


def rehearsal_facts(report: Rehearsal) -> Facts:
    from pykexec.rehearse import Stage

    load, stage = report.load, report.stage
    more = (
        f"allocator {stage.allocator}, seed {stage.seed}"
        if isinstance(stage, Stage)
        else f"{many(stage.cpus, 'CPU')}, {size(stage.reserved)} reserved"
    )
    facts = [
        ("kernel", f"{load.image.type} {load.image.version or 'of unknown version'}"),
        ("machine", f"{size(stage.memory)}, {stage.used}% in use, {more}"),
        ("mode", str(load.mode)),
    ]
    if load.window:
        facts.append(("window", f"{load.window} ({size(load.window.size)})"))
    facts += bound_facts(load)
    facts.append(("engine", f"{report.engine}: this machine was not touched"))
    return facts


def rehearsal_verdict(report: Rehearsal) -> str:
    """One line, the last one."""
    found = f"{report.patterns.right} of {report.filled} old pages"
    if report.good:
        return f"good: {found} are readable at their original address, once and only once"
    return f"bad: {found} are readable at their original address; see the checks"


def vmcore_info(core: CoreFile, verbose: int = 0) -> list[str]:
    lines = fields(vmcore_facts(core))
    if verbose and core.vmcoreinfo:
        lines += ["", *columns(core.vmcoreinfo.items())]
    if verbose:
        lines += ["", *columns([LOAD_HEAD, *load_rows(core)])]
    return lines


LOAD_HEAD = ("paddr", "memsz", "filesz", "offset", "vaddr")


def load_rows(core: CoreFile) -> Iterable[tuple[str, ...]]:
    for item in core.loads:
        numbers = (item.p_paddr, item.p_memsz, item.p_filesz, item.p_offset, item.p_vaddr)
        yield tuple(f"{number:#x}" for number in numbers)


def vmcore_facts(core: CoreFile) -> Facts:
    from pykexec.vmcore_check import covered, direct_offsets

    memory, offsets = covered(core), direct_offsets(core)
    info = core.vmcoreinfo
    facts = [
        ("file", f"{size(core.size)}, {many(len(core.headers), 'program header')}"),
        ("memory", f"{many(memory.size // PAGE_SIZE, 'page')} in {many(len(memory), 'range')}"),
        (
            "release",
            "no VMCOREINFO" if info is None else info.get("OSRELEASE", "not in VMCOREINFO"),
        ),
        ("vmcoreinfo", many(len(info or {}), "key")),
    ]
    if offsets:
        found = " or ".join(f"{offset:#x}" for offset in offsets[:3])
        facts.append(("direct map", f"p_vaddr - p_paddr is {found}"))
    cpus = ((f"CPU {n}", f"pid {c.pid}, ip {c.ip:#x}") for n, c in enumerate(core.cpus))
    return [*facts, *(cpus if core.cpus else [("CPUs", "no registers of any")])]


def vmcore_verdict(verdict: VmcoreVerdict, verbose: int = 0) -> list[str]:
    return [
        *vmcore_info(verdict.core, verbose),
        "",
        *check_lines(verdict.checks),
        "",
        whole_line(verdict),
    ]


def whole_line(verdict: VmcoreVerdict) -> str:
    broken = [item.rule for item in verdict.checks if item.ok is False]
    unknown = [item.rule for item in verdict.checks if item.ok is None]
    if broken:
        return f"not whole: {', '.join(broken)}"
    return "whole" + (
        f", as far as it can be told (unknown: {', '.join(unknown)})" if unknown else ""
    )


def machine(report: MachineReport, verbose: int = 0) -> list[str]:
    lines = [*fields(machine_facts(report)), "", *columns([MAP_HEAD, *map_rows(report)])]
    if verbose:
        lines += ["", *columns([("start", "end", "whose"), *frame_rows(report)])]
    return lines


MAP_HEAD = ("start", "end", "type")


def map_rows(report: MachineReport) -> list[tuple[str, ...]]:
    return [
        (f"{item.range.start:#x}", f"{item.range.end:#x}", str(item.type))
        for item in report.shown.memory_map.ranges
    ]


def frame_sets(report: MachineReport) -> list[tuple[str, RangeSet]]:
    shown = report.shown
    return [
        ("in use", shown.in_use),
        ("free", shown.free),
        ("kernel's own", shown.kernel),
        ("images", shown.images),
    ]


def frame_rows(report: MachineReport) -> list[tuple[str, ...]]:
    rows = [(span, name) for name, spans in frame_sets(report) for span in spans]
    return [(f"{span.start:#x}", f"{span.end:#x}", name) for span, name in sorted(rows)]


def machine_facts(report: MachineReport) -> Facts:
    reserved = report.shown.reservation
    facts = [("machine", report.folder)]
    for name, spans in frame_sets(report):
        frames = many(spans.size // PAGE_SIZE, "frame")
        facts.append((name, f"{size(spans.size)}, {frames} in {many(len(spans), 'run')}"))
    facts.append(("reserved", f"{reserved} ({size(reserved.size)})" if reserved else "nothing"))
    return facts


def captured(report: CapturedReport, verbose: int = 0) -> list[str]:
    lines = fields(captured_facts(report))
    if verbose and report.unreadable:
        lines += ["", *report.unreadable]
    return lines


def captured_facts(report: CapturedReport) -> Facts:
    return [
        ("written", report.file),
        ("holds", f"{many(report.files, 'file')}, {many(report.folders, 'folder')}"),
        ("unknown", f"{many(len(report.unreadable), 'file')} could not be read"),
        ("mode", "0600: it holds the command line, and where the kernel lies"),
    ]


def doctor(report: DoctorReport, verbose: int = 0) -> list[str]:
    """A line a row; its fix below it, where there is something to be done."""
    rows = list(columns([(str(row.level), row.name, row.evidence) for row in report.rows]))
    lines: list[str] = []
    for row, line in zip(report.rows, rows, strict=True):
        lines.append(line)
        if row.fix:
            lines.append(f"         fix: {row.fix}")
    return [*lines, "", doctor_verdict(report)]


def doctor_verdict(report: DoctorReport) -> str:
    levels = [str(row.level) for row in report.rows]
    counts = ", ".join(f"{levels.count(level)} {level}" for level in dict.fromkeys(levels))
    return f"{report.machine}: {counts}"


def explanation(report: ExplainReport, verbose: int = 0) -> list[str]:
    lines: list[str] = []
    if report.kind_of_error:
        kind = report.kind_of_error
        lines += [f"{kind.code}: {kind.meaning}", f"exit status {kind.exit_status}"]
    if report.checks:
        lines += columns([CHECK_HEAD, *kernel_rows(report)])
    elif not report.kind_of_error:
        lines.append(f"{report.word}: kexec never answers this")
    if report.plan is not None:
        lines += ["", *columns([PLAN_HEAD, *plan_rows(report)])]
    return lines


CHECK_HEAD = ("call", "stage", "errno", "the kernel checks that", "what helps")
PLAN_HEAD = ("rule", "", "found", "the kernel's answer")


def kernel_rows(report: ExplainReport) -> list[tuple[str, ...]]:
    return [(c.syscall, c.stage, c.errno, c.check, c.fix) for c in report.checks]


def plan_rows(report: ExplainReport) -> list[tuple[str, ...]]:
    from pykexec.cli.plain import verdict

    return [(v.rule, verdict(v.ok), v.detail, v.answer) for v in report.plan or ()]
