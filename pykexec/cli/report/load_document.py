"""The document of a plan, loaded or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.abi.kexec import flag_names
from pykexec.cli.report.document_parts import checks, kernel, map_entries, syscall, words
from pykexec.cli.report.waiting import staged
from pykexec.documents.base import Span, span, spans
from pykexec.documents.plan import (
    Console,
    Headers,
    Lack,
    PlanDocument,
    PlannedRun,
    PlannedSegment,
    Replaced,
    Settle,
)
from pykexec.machine import Unknown
from pykexec.placement.plan import PanicPlan, mode_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pykexec.cli.report.load import LoadReport
    from pykexec.placement.bind import BoundPlan
    from pykexec.placement.granted import Granted
    from pykexec.placement.plan import Plan
    from pykexec.placement.segment import Segment


def plan_document(report: LoadReport) -> PlanDocument:
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
        settle=settle(plan),
        lent=spans(plan.stage.lent) if isinstance(plan, PanicPlan) else (),
        page_size=plan.page_size,
    )


def reservation(report: LoadReport) -> tuple[Span, ...] | None:
    """The regions of crashkernel=, which are not in a dump; None if unknown."""
    regions = report.machine.crash_kernel
    return None if isinstance(regions, Unknown) else spans(regions)


def lacking(granted: Granted) -> tuple[Lack, ...] | None:
    return tuple(Lack(mode.value, why) for mode, why in granted.lacking) or None


def replaced(granted: Granted) -> Replaced | None:
    if not granted.replaced:
        return None
    return Replaced(not granted.replaced.gap, granted.replaced.gap or None)


def stage(plan: Plan) -> tuple[PlannedSegment, ...] | None:
    """The contents of the stage."""
    if not isinstance(plan, PanicPlan):
        return None
    return segments(item.segment for item in staged(plan))


def settle(plan: Plan) -> Settle | None:
    if not isinstance(plan, PanicPlan):
        return None
    return Settle(plan.settle.seconds, plan.settle.clock, plan.settle.why)


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


def backup_map(bound: BoundPlan) -> tuple[PlannedRun, ...]:
    return tuple(PlannedRun(run.dest, run.source, run.size) for run in bound.backup_map)


def headers(bound: BoundPlan) -> Headers:
    return Headers(bound.headers_at.start, bound.headers_at.size, bound.program_headers)
