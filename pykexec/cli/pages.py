"""Values as pages, lists of blocks: what was planned, loaded, started and freed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pykexec.cli.out.blocks import Block, Facts, Reasons, Segments, Table

if TYPE_CHECKING:
    from pykexec.backends.kernel.record import LoadRecord
    from pykexec.cli.reports import (
        FileLoadReport,
        LoadReport,
        StagedReport,
        StartedReport,
        StatusReport,
        Target,
        UnloadReport,
    )
    from pykexec.flows.rehearse.simulated import LoadFacts
    from pykexec.images.kernel_image import KernelImage
    from pykexec.memory.ranges import PhysRange
    from pykexec.placement.bind import BoundPlan
    from pykexec.placement.cmdline import CommandLine
    from pykexec.placement.estimate import Estimate
    from pykexec.placement.granted import Granted
    from pykexec.placement.kernel_rules import Check
    from pykexec.placement.plan import ByNormalPlan, Placed, Plan
    from pykexec.placement.segment import SegmentTable

Pairs = list[tuple[str, str]]

STAGE_HEAD = "waiting in huge pages, at the addresses of the switch:"
STUB_HEAD = "given to kexec_load(2), into the reservation:"
VERDICT_STYLES = {"ok": "green", "broken": "red", "unknown": "yellow"}


def load(report: LoadReport, verbose: int = 0) -> list[Block]:
    """The table, what it is and where it went; with -v every reason."""
    from pykexec.placement.plan import CapturePlan

    plan, table = report.planned.plan, report.planned.table
    page: list[Block] = [*segments(plan, table), Facts(load_facts(report, verbose))]
    if report.done and report.done.bound:
        page.append(Facts(bound_facts(report.done.bound)))
    if verbose:
        page += [Reasons(table), checks(report.planned.checks), words(plan.cmdline)]
        page.append(next_memory(plan))
        if isinstance(plan, CapturePlan):
            page.append(terms(plan.estimate))
    return page


def segments(plan: Plan, table: SegmentTable) -> list[Block]:
    """What the kernel is given; for a panic mode that is the stub alone, and what waits in huge
    pages is above it."""
    from pykexec.placement.plan import PanicPlan
    from pykexec.placement.segment import SegmentTable

    if not isinstance(plan, PanicPlan):
        return [Segments(table, around=plan.window or whole_span(table))]
    waiting = SegmentTable(tuple(item.segment for item in staged(plan)), plan.entry)
    return [Segments(waiting, STAGE_HEAD, plan.stage.window), Segments(table, STUB_HEAD)]


def staged(plan: Plan) -> list[Placed]:
    """Everything but the stub, by address."""
    from pykexec.placement.plan import PURGATORY

    return sorted((i for i in plan if i.name != PURGATORY), key=lambda item: item.range)


def whole_span(table: SegmentTable) -> PhysRange | None:
    """From the first segment to the last, where no window was asked for."""
    from pykexec.memory.ranges import PhysRange

    if not table.segments:
        return None
    return PhysRange(table.segments[0].mem, max(item.range.end for item in table.segments))


def load_facts(report: LoadReport, verbose: int = 0) -> Pairs:
    from pykexec.abi.kexec import flag_names
    from pykexec.placement.plan import ByNormalPlan, mode_of

    plan = report.planned.plan
    mode = mode_of(plan)
    facts = [
        ("image", str(plan.request.kind) + (f", mode {mode}" if mode else "")),
        ("kernel", kernel(plan.image)),
        ("entry", f"{plan.entry:#x}"),
        ("flags", " | ".join(flag_names(plan.flags)) or "0"),
    ]
    if plan.window:
        facts.append(("window", f"{plan.window} ({size(plan.window.size)})"))
    if report.granted and mode:
        facts += mode_facts(report.granted)
    if isinstance(plan, ByNormalPlan):
        facts.append(("cost", cost(plan)))
    facts.append(("cmdline", str(plan.cmdline)))
    if verbose:
        facts.append(("stub", f"console {plan.console}"))
    if report.syscall:
        facts.append(("syscall", f"{report.syscall.syscall}: {report.syscall.why}"))
    facts.append(("backend", target(report.target)))
    done = f"loaded ({report.done.loaded.slot} slot)" if report.done else "dry run, nothing loaded"
    return [*facts, ("state", done)]


def kernel(image: KernelImage) -> str:
    return f"{image.type} {image.version or 'of unknown version'}"


def target(where: Target) -> str:
    return f"{where.backend}, {where.machine}"


def mode_facts(granted: Granted) -> Pairs:
    """Why this mode, and what the others lacked."""
    facts = [("mode", f"{granted.mode}: {granted.why}")]
    facts += [(f"not {mode}", lack) for mode, lack in granted.lacking]
    if replaced := granted.replaced:
        how = (
            f"unloaded first: {replaced.gap}" if replaced.gap else "armed until this one was loaded"
        )
        facts.append(("replaced", how))
    return facts


def cost(plan: ByNormalPlan) -> str:
    """What a crash by normal holds of this machine's memory until it is unloaded."""
    from pykexec.abi.hugetlb import HUGE_PAGE_SIZE
    from pykexec.placement.plan import ELFCOREHDR, PanicPlan

    if isinstance(plan, PanicPlan):
        pages = plan.stage.ours.size // HUGE_PAGE_SIZE
        return f"{size(plan.stage.ours.size)} in {many(pages, 'huge page')}"
    pages = sum(item.range.size for item in plan if item.name != ELFCOREHDR)
    return f"{size(pages + plan.headers.size)}, and the kernel's page lists"


def bound_facts(bound: BoundPlan | LoadFacts) -> Pairs:
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


def checks(found: Iterable[Check]) -> Table:
    rows = [(item.rule, verdict(item.ok), item.detail) for item in found]
    return Table(("check", "", "found"), rows, styles=[VERDICT_STYLES[row[1]] for row in rows])


def verdict(ok: bool | None) -> str:
    return {True: "ok", False: "broken", None: "unknown"}[ok]


def words(line: CommandLine) -> Table:
    """Every word of the command line, and who wanted it; then what was dropped, and why."""
    rows = [(word.text, str(word.origin)) for word in line.words]
    rows += [(item.text, f"{item.origin}, dropped: {item.why}") for item in line.dropped]
    return Table(("word", "from"), rows, 2)


def next_memory(plan: Plan) -> Table:
    """The memory map that the next kernel is given."""
    rows = [
        (str(item.range), size(item.range.size), str(item.type)) for item in plan.next_map.ranges
    ]
    rows = rows or [("none: it is given no map", "", "")]
    return Table(("memory of the next kernel", "", "type"), rows)


def terms(estimate: Estimate) -> Table:
    rows = [(term.name, f"{term.size:#x}", size(term.size), term.why) for term in estimate.terms]
    total = ("in all", f"{estimate.size:#x}", size(estimate.size), "rounded up to 16 MiB")
    return Table(("estimate", "bytes", "", "for"), [*rows, total])


def file_load(report: FileLoadReport, verbose: int = 0) -> list[Block]:
    """The kernel places it, and does not say where."""
    plan = report.plan
    loaded = f"loaded ({plan.slot} slot), placed by the kernel"
    facts = [
        ("image", str(plan.slot)),
        ("kernel", kernel(plan.image)),
        ("flags", " | ".join(str(flag.name) for flag in plan.flags) or "0"),
        ("cmdline", str(plan.cmdline)),
        ("syscall", f"{report.syscall.syscall}: {report.syscall.why}"),
        ("backend", target(report.target)),
        ("state", loaded if report.loaded else "dry run, nothing loaded: the kernel will place it"),
    ]
    return [Facts(facts), words(plan.cmdline)] if verbose else [Facts(facts)]


def status(report: StatusReport, verbose: int = 0) -> list[Block]:
    slots = [(str(slot), str(state)) for slot, state in report.slots.items()]
    ours = staged_facts(report.staged) if report.staged else []
    return [Facts([*slots, *ours, ("backend", target(report.target))])]


def staged_facts(ours: StagedReport) -> Pairs:
    """What pykexec itself has loaded."""
    from datetime import UTC, datetime

    record = ours.record
    since = datetime.fromtimestamp(record.since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return [
        ("staged", f"crash by normal, mode {record.mode} ({record.slot} slot), since {since}"),
        ("kernel", record.kernel),
        ("initrd", modules(record)),
        ("window", f"{record.window} ({size(record.window.size)})"),
        ("pages", f"{many(ours.huge_pages, 'huge page')} of ours"),
        ("check", ours.problem or "every address and every digest is as it was"),
    ]


def modules(record: LoadRecord) -> str:
    """Whether initrd and kernel belong together."""
    if record.modules_match is None:
        return "whether it belongs to the kernel is unknown: no modules were seen in it"
    if record.modules_match:
        return f"has the modules of {record.release}, the kernel's release"
    found = ", ".join(record.modules)
    return f"of another kernel: its modules are of {found}, the kernel is {record.release}"


def started(report: StartedReport, verbose: int = 0) -> list[Block]:
    switched = report.switched
    facts = [
        ("started", "the crash image, by a panic" if report.how == "crash" else "the image"),
        ("checked", ", ".join(str(item) for item in switched.checked) or "nothing"),
        ("cmdline", switched.cmdline),
    ]
    if switched.vmcore:
        loads = many(switched.loads, "PT_LOAD")
        facts.append(("vmcore", f"{switched.vmcore} ({size(switched.vmcore_size)}, {loads})"))
    return [Facts([*facts, ("backend", target(report.target))])]


def unload(report: UnloadReport, verbose: int = 0) -> list[Block]:
    was = (str(report.slot), f"not loaded (was {report.was})")
    return [Facts([was, ("backend", target(report.target))])]


def size(number: int) -> str:
    """Bytes for a reader: whole units where they are exact enough, hex never."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if number >= unit:
            return f"{number / unit:.1f}".removesuffix(".0") + f" {name}"
    return f"{number} bytes"


def many(count: int, noun: str) -> str:
    """ "1 page", "2 pages"."""
    return f"{count} {noun if count == 1 else noun + 's'}"
