"""The result of `load` with kexec_load(2), loaded or planned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.abi.hugetlb import HUGE_PAGE_SIZE
from pykexec.abi.kexec import flag_names
from pykexec.cli.out.blocks import Block, Facts, Lines, Reasons, Segments, Table
from pykexec.cli.report.page_parts import (
    CAUTION,
    Pairs,
    bound_facts,
    checks,
    kernel,
    many,
    size,
    words,
)
from pykexec.cli.report.waiting import staged
from pykexec.frozen import dataclass
from pykexec.memory.ranges import PhysRange
from pykexec.placement.plan import (
    ByNormalPlan,
    CapturePlan,
    PanicPlan,
    mode_of,
)
from pykexec.placement.role import Role
from pykexec.placement.segment import SegmentTable

if TYPE_CHECKING:
    from pykexec.cli.report.target import Target
    from pykexec.documents.plan import PlanDocument
    from pykexec.flows.checked_plan import CheckedPlan
    from pykexec.flows.load import LoadedPlan
    from pykexec.machine import Machine
    from pykexec.placement.estimate import Estimate
    from pykexec.placement.granted import Granted
    from pykexec.placement.plan import Plan
    from pykexec.placement.syscall_choice import SyscallChoice

STAGE_HEAD = "staged in huge pages, with the addresses after the switch:"
STUB_HEAD = "passed to kexec_load(2), for the crash region:"


@dataclass(frozen=True)
class LoadReport:
    """`machine` is the machine of the plan; `done` is None after a dry run, `granted` after a dry
    run on the simulated kernel."""

    target: Target
    planned: CheckedPlan
    machine: Machine
    done: LoadedPlan | None = None
    granted: Granted | None = None
    syscall: SyscallChoice | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        bound = self.done.bound if self.done else None
        return (
            *self.planned.plan.initrd.warnings,
            *self.planned.plan.warnings,
            *(self.granted.warnings if self.granted else ()),
            *self.gap,
            *(bound.warnings if bound else ()),
        )

    @property
    def effect(self) -> str:
        """What has happened; "" after a dry run."""
        return f"the {self.done.loaded.slot} image is loaded" if self.done else ""

    @property
    def gap(self) -> tuple[str, ...]:
        """A note if a replacement left the machine unarmed for a while."""
        replaced = self.granted.replaced if self.granted else None
        if replaced is None or replaced.stayed_armed:
            return ()
        return (f"nothing was armed while this was prepared: {replaced.gap}",)

    @property
    def notes(self) -> tuple[str, ...]:
        """For -v."""
        return self.planned.plan.initrd.notes

    def document(self) -> PlanDocument:
        # Documents of plans have many classes, which take milliseconds to define.
        from pykexec.cli.report.load_document import plan_document

        return plan_document(self)

    def page(self, verbose: int) -> list[Block]:
        """The table, and facts about it; with -v every reason."""
        plan, table = self.planned.plan, self.planned.table
        heading = [Lines([self.target.notice], CAUTION)] if self.done and self.target.notice else []
        page: list[Block] = [*heading, *segments(plan, table), Facts(facts(self, verbose))]
        if self.done and self.done.bound:
            page.append(Facts(bound_facts(self.done.bound, plan.page_size)))
        if verbose:
            page += [Reasons(table), checks(self.planned.checks), words(plan.cmdline)]
            page.append(_next_memory(plan))
            if isinstance(plan, CapturePlan):
                page.append(_terms(plan.estimate))
        return page


def segments(plan: Plan, table: SegmentTable) -> list[Block]:
    """The segments for the kernel; for a panic mode that is only the stub, after the contents of
    huge pages."""
    if not isinstance(plan, PanicPlan):
        return [Segments(table, around=plan.window or _whole_span(table))]
    waiting = SegmentTable(tuple(item.segment for item in staged(plan)), plan.entry)
    return [Segments(waiting, STAGE_HEAD, plan.stage.window), Segments(table, STUB_HEAD)]


def _whole_span(table: SegmentTable) -> PhysRange | None:
    """From the first segment to the last, if no window was requested."""
    if not table.segments:
        return None
    return PhysRange(table.segments[0].mem, max(item.range.end for item in table.segments))


def facts(report: LoadReport, verbose: int) -> Pairs:
    plan = report.planned.plan
    mode = mode_of(plan)
    found = [
        ("image", str(plan.request.kind) + (f", mode {mode}" if mode else "")),
        ("kernel", kernel(plan.image)),
        ("entry", f"{plan.entry:#x}"),
        ("flags", " | ".join(flag_names(plan.flags)) or "0"),
    ]
    if plan.window:
        found.append(("window", f"{plan.window} ({size(plan.window.size)})"))
    if report.granted and mode:
        found += _mode_facts(report.granted)
    if isinstance(plan, ByNormalPlan):
        found.append(("cost", cost(plan)))
    if isinstance(plan, PanicPlan) and plan.settle.seconds:
        found.append(("wait", str(plan.settle)))
    if isinstance(plan, PanicPlan) and plan.stage.lent:
        found.append(("lent", lent(plan)))
    found.append(("cmdline", str(plan.cmdline)))
    if verbose:
        found.append(("stub", f"console {plan.console}"))
    if report.syscall:
        found.append(("syscall", f"{report.syscall.syscall}: {report.syscall.why}"))
    found.append(("backend", str(report.target)))
    done = f"loaded ({report.done.loaded.slot} slot)" if report.done else "dry run, nothing loaded"
    return [*found, ("state", done)]


def _mode_facts(granted: Granted) -> Pairs:
    """Why this mode, and what the others lacked."""
    found = [("mode", f"{granted.mode}: {granted.why}")]
    found += [(f"not {mode}", lack) for mode, lack in granted.lacking]
    if replaced := granted.replaced:
        how = (
            f"unloaded first: {replaced.gap}" if replaced.gap else "armed until this one was loaded"
        )
        found.append(("replaced", how))
    return found


def cost(plan: ByNormalPlan) -> str:
    """What a crash by normal holds of this machine's memory until it is unloaded."""
    if isinstance(plan, PanicPlan):
        pages = plan.stage.ours.size // HUGE_PAGE_SIZE
        return f"{size(plan.stage.ours.size)} in {many(pages, 'huge page')}"
    pages = sum(item.range.size for item in plan if item.role is not Role.ELFCOREHDR)
    return f"{size(pages + plan.headers.size)}, and the kernel's page lists"


def lent(plan: PanicPlan) -> str:
    """The memory that applications use until the panic, and that a dump lacks."""
    return (
        f"{size(plan.stage.lent.size)} of the window stay in use; user pages, page cache and "
        "free pages there are not in the dump"
    )


def _next_memory(plan: Plan) -> Table:
    """The memory map for the next kernel."""
    rows = [
        (str(item.range), size(item.range.size), str(item.type)) for item in plan.next_map.ranges
    ]
    rows = rows or [("none: it gets no map", "", "")]
    return Table(("memory of the next kernel", "", "type"), rows)


def _terms(estimate: Estimate) -> Table:
    rows = [(term.name, f"{term.size:#x}", size(term.size), term.why) for term in estimate.terms]
    total = (
        "total",
        f"{estimate.size:#x}",
        size(estimate.size),
        f"rounded up to {size(estimate.step)}",
    )
    return Table(("estimate", "bytes", "", "for"), [*rows, total])
