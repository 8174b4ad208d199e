"""Pages of what was found out: dumps, machines, preconditions, differences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.abi.kexec import PAGE_SIZE
from pykexec.cli.out.blocks import Block, Facts, Lines, Remedies, Segments, Table
from pykexec.cli.pages import Pairs, bound_facts, checks, kernel, many, size, verdict

if TYPE_CHECKING:
    from pykexec.cli.reports import (
        CapturedReport,
        DoctorReport,
        ExplainReport,
        MachineReport,
    )
    from pykexec.dump.core_file import CoreFile
    from pykexec.dump.dump_check import DumpVerdict
    from pykexec.dump.vmcore_check import VmcoreVerdict
    from pykexec.flows.diff import Piece, PlanDiff
    from pykexec.flows.rehearse.simulated import Rehearsal
    from pykexec.memory.ranges import PhysRange

GOOD, BAD = "bold green", "bold red"
LEVEL_STYLES = {"ok": "green", "warn": "yellow", "fail": "red", "unknown": "magenta"}
CHECK_HEAD = ("call", "stage", "errno", "the kernel checks that", "what helps")
PLAN_HEAD = ("rule", "", "found", "the kernel's answer")
NOTHING = "-"


def rehearsal(report: Rehearsal, verbose: int = 0) -> list[Block]:
    table = report.load.table
    found = f"{report.patterns.right} of {report.filled} old pages"
    line = (
        f"good: {found} are readable at their original address, once and only once"
        if report.good
        else f"bad: {found} are readable at their original address; see the checks"
    )
    return [
        *([Segments(table)] if table else []),
        Facts(rehearsal_facts(report)),
        checks(report.checks),
        Lines([line], GOOD if report.good else BAD),
    ]


def rehearsal_facts(report: Rehearsal) -> Pairs:
    from pykexec.flows.rehearse.simulated import Stage

    load, stage = report.load, report.stage
    more = (
        f"allocator {stage.allocator}, seed {stage.seed}"
        if isinstance(stage, Stage)
        else f"{many(stage.cpus, 'CPU')}, {size(stage.reserved)} reserved"
    )
    facts = [
        ("kernel", kernel(load.image)),
        ("machine", f"{size(stage.memory)}, {stage.used}% in use, {more}"),
        ("mode", str(load.mode)),
    ]
    if load.window:
        facts.append(("window", f"{load.window} ({size(load.window.size)})"))
    engine = ("engine", f"{report.engine}: this machine was not touched")
    return [*facts, *bound_facts(load), engine]


def vmcore_info(core: CoreFile, verbose: int = 0) -> list[Block]:
    page: list[Block] = [Facts(vmcore_facts(core))]
    if verbose and core.vmcoreinfo:
        page.append(Facts(list(core.vmcoreinfo.items())))
    if verbose:
        loads = (
            (item.p_paddr, item.p_memsz, item.p_filesz, item.p_offset, item.p_vaddr)
            for item in core.loads
        )
        rows = [tuple(f"{number:#x}" for number in load) for load in loads]
        page.append(Table(("paddr", "memsz", "filesz", "offset", "vaddr"), rows))
    return page


def vmcore_facts(core: CoreFile) -> Pairs:
    from pykexec.dump.vmcore_check import covered, direct_offsets, page_count, without_contents

    memory, offsets, hollow = covered(core), direct_offsets(core), without_contents(core)
    info = core.vmcoreinfo
    empty = f"{many(page_count(hollow), 'page')} listed, and not in the file"
    release = "no VMCOREINFO" if info is None else info.get("OSRELEASE", "not in VMCOREINFO")
    facts = [
        ("file", f"{size(core.size)}, {many(len(core.headers), 'program header')}"),
        ("memory", f"{many(memory.size // PAGE_SIZE, 'page')} in {many(len(memory), 'range')}"),
        *([("no contents", empty)] if hollow else []),
        ("release", release),
        ("vmcoreinfo", many(len(info or {}), "key")),
    ]
    if offsets:
        found = " or ".join(f"{offset:#x}" for offset in offsets[:3])
        facts.append(("direct map", f"p_vaddr - p_paddr is {found}"))
    cpus = ((f"CPU {n}", f"pid {c.pid}, ip {c.ip:#x}") for n, c in enumerate(core.cpus))
    return [*facts, *(cpus if core.cpus else [("CPUs", "no registers of any")])]


def vmcore_verdict(verdict: VmcoreVerdict, verbose: int = 0) -> list[Block]:
    line = Lines([whole_line(verdict)], GOOD if verdict.whole else BAD)
    return [*vmcore_info(verdict.core, verbose), checks(verdict.checks), line]


def whole_line(verdict: VmcoreVerdict | DumpVerdict) -> str:
    broken = [item.rule for item in verdict.checks if item.ok is False]
    unknown = [item.rule for item in verdict.checks if item.ok is None]
    if broken:
        return f"not whole: {', '.join(broken)}"
    return "whole" + (
        f", as far as it can be told (unknown: {', '.join(unknown)})" if unknown else ""
    )


def machine(report: MachineReport, verbose: int = 0) -> list[Block]:
    shown = report.shown
    sets = (
        ("in use", shown.in_use),
        ("free", shown.free),
        ("kernel's own", shown.kernel),
        ("images", shown.images),
    )
    facts = [("machine", report.folder)]
    for name, spans in sets:
        frames = many(spans.size // PAGE_SIZE, "frame")
        facts.append((name, f"{size(spans.size)}, {frames} in {many(len(spans), 'run')}"))
    reserved = shown.reservation
    facts.append(("reserved", f"{reserved} ({size(reserved.size)})" if reserved else "nothing"))
    ranges = [(item.range, str(item.type)) for item in shown.memory_map.ranges]
    page: list[Block] = [Facts(facts), spans_table(ranges, "type")]
    if verbose:
        frames_of = sorted((span, name) for name, spans in sets for span in spans)
        page.append(spans_table(frames_of, "whose"))
    return page


def spans_table(rows: list[tuple[PhysRange, str]], what: str) -> Table:
    cells = [(f"{span.start:#x}", f"{span.end:#x}", name) for span, name in rows]
    return Table(("start", "end", what), cells)


def captured(report: CapturedReport, verbose: int = 0) -> list[Block]:
    facts = [
        ("written", report.file),
        ("holds", f"{many(report.files, 'file')}, {many(report.folders, 'folder')}"),
        ("unknown", f"{many(len(report.unreadable), 'file')} could not be read"),
        ("mode", "0600: it holds the command line, and where the kernel lies"),
    ]
    more = [Lines(report.unreadable)] if verbose and report.unreadable else []
    return [Facts(facts), *more]


def doctor(report: DoctorReport, verbose: int = 0) -> list[Block]:
    rows = [(str(row.level), row.name, row.evidence, row.fix) for row in report.rows]
    levels = [row[0] for row in rows]
    counts = ", ".join(f"{levels.count(level)} {level}" for level in dict.fromkeys(levels))
    return [
        Remedies(("", "what", "found", "fix"), rows, [LEVEL_STYLES[level] for level in levels]),
        Lines([f"{report.machine}: {counts}"], "bold"),
    ]


def explanation(report: ExplainReport, verbose: int = 0) -> list[Block]:
    page: list[Block] = []
    if kind := report.kind_of_error:
        page.append(Lines([f"{kind.code}: {kind.meaning}", f"exit status {kind.exit_status}"]))
    elif not report.checks:
        page.append(Lines([f"{report.word}: kexec never answers this"]))
    if report.checks:
        rows = [(c.syscall, c.stage, c.errno, c.check, c.fix) for c in report.checks]
        page.append(Table(CHECK_HEAD, rows, 2))
    if report.plan is not None:
        found = [(v.rule, verdict(v.ok), v.detail, v.answer) for v in report.plan]
        page.append(Table(PLAN_HEAD, found, 2))
    return page


def diff(found: PlanDiff, verbose: int = 0) -> list[Block]:
    page: list[Block] = []
    if found.fields:
        fields = [(item.field, side(item.a), side(item.b)) for item in found.fields]
        page.append(Table(("field", "A", "B"), fields, 2))
    if found.pieces:
        pieces = [
            (item.name, ", ".join(item.what), piece(item.a), piece(item.b)) for item in found.pieces
        ]
        page.append(Table(("segment", "", "A", "B"), pieces, 0))
    if found.same:
        return [*page, Lines(["the same"], GOOD)]
    counts = f"{many(len(found.fields), 'field')}, {many(len(found.pieces), 'segment')}"
    return [*page, Lines([f"different: {counts}"], "bold")]


def side(value: str | None) -> str:
    return NOTHING if value is None else value


def piece(item: Piece | None) -> str:
    """Where it is, and the first digits of what it holds."""
    if item is None:
        return NOTHING
    return f"{item.range} {item.sha256[:12] if item.sha256 else 'no data'}"
