"""Values as plain text: complete, the same from run to run, at any width."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pykexec.backends.backend import Prepared
    from pykexec.cli.reports import (
        FileLoadReport,
        LoadReport,
        StagedReport,
        StartedReport,
        StatusReport,
        Target,
        UnloadReport,
    )
    from pykexec.placement.bind import BoundPlan
    from pykexec.placement.cmdline import CommandLine
    from pykexec.placement.estimate import Estimate
    from pykexec.placement.kernel_rules import Check
    from pykexec.placement.plan import Placed, PlacementPlan
    from pykexec.placement.segment import Segment, SegmentTable
    from pykexec.rehearse import LoadFacts

SEGMENT_HEAD = ("No.", "buf", "bufsz", "mem", "memsz", "what")
SEGMENT_WIDTHS = (3, 10, 8, 8, 8)
"""The least width of each column; a longer address widens its column."""
GAP = "  "


def columns(rows: Iterable[Sequence[str]], widths: Sequence[int] = ()) -> Iterator[str]:
    """Rows in columns, two spaces apart; nothing is ever cut."""
    cells = [tuple(row) for row in rows]
    if not cells:
        return
    least = (*widths, *(0 for _ in cells[0][len(widths) :]))
    wide = [max([low, *(len(row[at]) for row in cells)]) for at, low in enumerate(least)]
    for row in cells:
        padded = (cell.ljust(width) for cell, width in zip(row, wide, strict=True))
        yield GAP.join(padded).rstrip()


def hexa(value: int) -> str:
    """As the seed prints it: 0x in front, but 0 is 0."""
    return f"{value:#x}" if value else "0"


def segment_row(number: int, item: Segment) -> tuple[str, ...]:
    return (
        str(number),
        "data" if item.bufsz else "NULL",
        hexa(item.bufsz),
        f"{item.mem:#x}",
        hexa(item.memsz),
        item.name,
    )


def segment_table(table: SegmentTable) -> list[str]:
    """The seed's table: one head, one line a segment."""
    rows = [segment_row(*pair) for pair in enumerate(table.segments)]
    return list(columns([SEGMENT_HEAD, *rows], SEGMENT_WIDTHS))


def size(number: int) -> str:
    """Bytes for a reader: whole units where they are exact enough, hex never."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if number >= unit:
            return f"{number / unit:.1f}".removesuffix(".0") + f" {name}"
    return f"{number} bytes"


def many(count: int, noun: str, plural: str = "") -> str:
    """ "1 page", "2 pages"."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def fields(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """name  value, aligned."""
    return list(columns([(name, value) for name, value in pairs], (9,)))


def load(report: LoadReport, verbose: int = 0) -> list[str]:
    """The table, what it is and where it went; with -v every reason."""
    plan = report.planned.plan
    lines = [*staged_lines(plan), *segment_table(report.planned.table)]
    lines += ["", *fields(load_facts(report))]
    bound = report.done.bound if report.done else None
    if bound:
        lines += ["", *bound_lines(bound)]
    if verbose:
        lines += ["", *reasons(report.planned.table)]
        lines += ["", *check_lines(report.planned.checks)]
        lines += ["", *word_lines(plan.cmdline)]
        if plan.estimate:
            lines += ["", *estimate_lines(plan.estimate)]
    return lines


def staged_lines(plan: PlacementPlan) -> list[str]:
    """What waits in huge pages for a panic; the kernel itself is given only the stub."""
    if plan.stage is None:
        return []
    rows = [segment_row(no, item.segment) for no, item in enumerate(staged(plan))]
    return [STAGE_HEAD, *columns([SEGMENT_HEAD, *rows], SEGMENT_WIDTHS), "", STUB_HEAD]


STAGE_HEAD = "waiting in huge pages, at the addresses of the switch:"
STUB_HEAD = "given to kexec_load(2), into the reservation:"


def staged(plan: PlacementPlan) -> list[Placed]:
    """Everything but the stub, by address."""
    from pykexec.placement.plan import PURGATORY

    return sorted((i for i in plan if i.name != PURGATORY), key=lambda item: item.range)


def file_load(report: FileLoadReport, verbose: int = 0) -> list[str]:
    return fields(file_load_facts(report))


def file_load_facts(report: FileLoadReport) -> list[tuple[str, str]]:
    """The kernel placed it, and does not say where."""
    done = report.done
    return [
        ("kernel", f"{done.image.type} {done.image.version or 'of unknown version'}"),
        ("flags", " | ".join(str(flag.name) for flag in done.flags) or "0"),
        ("cmdline", str(done.cmdline)),
        ("syscall", f"{report.syscall.syscall}: {report.syscall.why}"),
        ("backend", target_line(report.target)),
        ("state", f"loaded ({done.slot} slot), placed by the kernel"),
    ]


def mode_facts(prepared: Prepared) -> list[tuple[str, str]]:
    """Why this mode, and what the others lacked."""
    facts = [("mode", f"{prepared.request.mode}: {prepared.why}")]
    return [*facts, *((f"not {mode}", lack) for mode, lack in prepared.lacking)]


def cost(plan: PlacementPlan) -> str:
    """What a crash by normal holds of this machine's memory until it is unloaded."""
    from pykexec.abi.hugetlb import HUGE_PAGE_SIZE
    from pykexec.placement.plan import ELFCOREHDR

    if plan.stage:
        pages = plan.stage.ours.size // HUGE_PAGE_SIZE
        return f"{size(plan.stage.ours.size)} in {many(pages, 'huge page')}"
    pages = sum(item.range.size for item in plan if item.name != ELFCOREHDR)
    headers = plan.headers.size if plan.headers else 0
    return f"{size(pages + headers)}, and the kernel's page lists"


def load_facts(report: LoadReport) -> list[tuple[str, str]]:
    """What is the same in the plain and in the drawn form."""
    from pykexec.abi.kexec import flag_names

    plan = report.planned.plan
    facts = [
        ("image", image_line(plan)),
        ("kernel", f"{plan.image.type} {plan.image.version or 'of unknown version'}"),
        ("entry", f"{plan.entry:#x}"),
        ("flags", " | ".join(flag_names(plan.flags)) or "0"),
    ]
    if plan.window:
        facts.append(("window", f"{plan.window} ({size(plan.window.size)})"))
    if report.prepared and plan.mode:
        facts += mode_facts(report.prepared)
    if plan.mode:
        facts.append(("cost", cost(plan)))
    facts.append(("cmdline", str(plan.cmdline)))
    if report.syscall:
        facts.append(("syscall", f"{report.syscall.syscall}: {report.syscall.why}"))
    facts.append(("backend", target_line(report.target)))
    done = f"loaded ({report.done.loaded.slot} slot)" if report.done else "dry run, nothing loaded"
    facts.append(("state", done))
    return facts


def image_line(plan: PlacementPlan) -> str:
    return str(plan.request.kind) + (f", mode {plan.mode}" if plan.mode else "")


def target_line(target: Target) -> str:
    return f"{target.backend}, {target.machine}"


def bound_facts(bound: BoundPlan | LoadFacts) -> list[tuple[str, str]]:
    """The backup map and the headers in brief."""
    from pykexec.abi.kexec import PAGE_SIZE

    moved = bound.backup_map.moved
    held = sum(run.size for run in bound.backup_map) // PAGE_SIZE - bound.backup_map.backup_pages
    return [
        (
            "backup map",
            f"{many(bound.backup_map.backup_pages, 'page')} in {many(len(moved), 'run')}, "
            f"{many(held, 'page')} in place (free before, nothing to keep)",
        ),
        (
            "headers",
            f"{many(bound.program_headers, 'program header')} at {bound.headers_at.start:#x}, "
            f"room for {bound.headers_at.size:#x} bytes",
        ),
    ]


def bound_lines(bound: BoundPlan) -> list[str]:
    return fields(bound_facts(bound))


def reasons(table: SegmentTable) -> list[str]:
    """Why each segment is where it is."""
    rows = [(str(number), item.name, item.why) for number, item in enumerate(table.segments)]
    return list(columns([("No.", "what", "why"), *rows]))


def check_lines(checks: Iterable[Check]) -> list[str]:
    return list(
        columns([("check", "", "found"), *((c.rule, verdict(c.ok), c.detail) for c in checks)])
    )


def verdict(ok: bool | None) -> str:
    return {True: "ok", False: "broken", None: "unknown"}[ok]


def word_lines(line: CommandLine) -> list[str]:
    """Every word of the command line, and who wanted it."""
    return list(columns([("word", "from"), *((w.text, str(w.origin)) for w in line.words)]))


def estimate_lines(estimate: Estimate) -> list[str]:
    rows = [(term.name, f"{term.size:#x}", size(term.size), term.why) for term in estimate.terms]
    total = ("in all", f"{estimate.size:#x}", size(estimate.size), "rounded up to 16 MiB")
    return list(columns([("estimate", "bytes", "", "for"), *rows, total]))


def status(report: StatusReport, verbose: int = 0) -> list[str]:
    return fields(status_facts(report))


def status_facts(report: StatusReport) -> list[tuple[str, str]]:
    slots = [(str(slot), str(state)) for slot, state in report.slots.items()]
    staged = staged_facts(report.staged) if report.staged else []
    return [*slots, *staged, ("backend", target_line(report.target))]


def staged_facts(staged: StagedReport) -> list[tuple[str, str]]:
    """What pykexec itself has loaded."""
    from datetime import UTC, datetime

    record = staged.record
    since = datetime.fromtimestamp(record.since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return [
        ("staged", f"crash by normal, mode {record.mode} ({record.slot} slot), since {since}"),
        ("kernel", record.kernel),
        ("window", f"{record.window} ({size(record.window.size)})"),
        ("pages", f"{many(staged.huge_pages, 'huge page')} of ours"),
        ("check", staged.problem or "every address and every digest is as it was"),
    ]


def started(report: StartedReport, verbose: int = 0) -> list[str]:
    return fields(started_facts(report))


def started_facts(report: StartedReport) -> list[tuple[str, str]]:
    switched = report.switched
    found = [("started", "the crash image, by a panic" if report.how == "crash" else "the image")]
    found.append(("checked", ", ".join(str(item) for item in switched.checked) or "nothing"))
    found.append(("cmdline", switched.cmdline))
    if switched.vmcore:
        loads = many(switched.loads, "PT_LOAD")
        found.append(("vmcore", f"{switched.vmcore} ({size(switched.vmcore_size)}, {loads})"))
    return [*found, ("backend", target_line(report.target))]


def unload(report: UnloadReport, verbose: int = 0) -> list[str]:
    return fields(unload_facts(report))


def unload_facts(report: UnloadReport) -> list[tuple[str, str]]:
    return [
        (str(report.slot), f"not loaded (was {report.was})"),
        ("backend", target_line(report.target)),
    ]
