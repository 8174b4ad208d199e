"""The documents of what was found out: dumps, machines, preconditions, differences."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pykexec.cli.documents import checks, kernel, map_entries
from pykexec.documents.base import span, spans
from pykexec.documents.findings import (
    ComparedPiece,
    Difference,
    Doctor,
    DoctorRow,
    ExplainedCheck,
    ExplainedError,
    ExplainedRule,
    Explanation,
    FieldDifference,
    PieceDifference,
)
from pykexec.documents.machine import CapturedFile, SimulatedMachine
from pykexec.documents.vmcore import (
    DumpCpu,
    Patterns,
    RealStage,
    RehearsalDocument,
    SimulatedStage,
    Vmcore,
)

if TYPE_CHECKING:
    from pykexec.cli.reports import (
        CapturedReport,
        DoctorReport,
        ExplainReport,
        MachineReport,
    )
    from pykexec.dump.core_file import CoreFile
    from pykexec.dump.vmcore_check import VmcoreVerdict
    from pykexec.dump.vmcore_pages import PatternCount
    from pykexec.flows.diff import Piece, PlanDiff
    from pykexec.flows.explain import KernelCheck
    from pykexec.flows.rehearse.qemu import QemuStage
    from pykexec.flows.rehearse.simulated import Rehearsal, Stage


def rehearsal(report: Rehearsal) -> RehearsalDocument:
    load = report.load
    return RehearsalDocument(
        engine=report.engine,
        good=report.good,
        kernel=kernel(load.image),
        machine=machine_of(report.stage),
        mode=str(load.mode),
        window=span(load.window) if load.window else None,
        backup_pages=load.backup_map.backup_pages,
        backup_runs=len(load.backup_map.moved),
        program_headers=load.program_headers,
        filled_pages=report.filled,
        pattern_pages=patterns(report.patterns),
        checks=checks(report.checks),
    )


def machine_of(stage: Stage | QemuStage) -> SimulatedStage | RealStage:
    from pykexec.flows.rehearse.simulated import Stage

    if isinstance(stage, Stage):
        return SimulatedStage(stage.memory, stage.used, stage.allocator, stage.relocate, stage.seed)
    return RealStage(stage.memory, stage.used, stage.cpus, stage.reserved)


def patterns(count: PatternCount) -> Patterns:
    return Patterns(count.right, count.copies, count.lost, count.broken, count.first_bad)


def vmcore_info(core: CoreFile) -> Vmcore:
    """What is in a dump, unchecked."""
    from pykexec.dump.vmcore_check import covered, direct_offsets, without_contents

    offsets = direct_offsets(core)
    return Vmcore(
        size=core.size,
        program_headers=len(core.headers),
        loads=len(core.loads),
        cpus=tuple(DumpCpu(cpu.pid, cpu.ip) for cpu in core.cpus),
        vmcoreinfo=core.vmcoreinfo,
        page_offset=offsets[0] if len(offsets) == 1 else None,
        memory=spans(covered(core)),
        without_contents=spans(without_contents(core)),
    )


def vmcore_verdict(verdict: VmcoreVerdict) -> Vmcore:
    """With the checks, and what came of them."""
    return replace(
        vmcore_info(verdict.core),
        whole=verdict.whole,
        checks=checks(verdict.checks),
        pattern_pages=patterns(verdict.patterns) if verdict.patterns else None,
    )


def machine(report: MachineReport) -> SimulatedMachine:
    shown = report.shown
    return SimulatedMachine(
        memory_map=map_entries(shown.memory_map),
        in_use=spans(shown.in_use),
        free=spans(shown.free),
        kernel=spans(shown.kernel),
        images=spans(shown.images),
        reservation=span(shown.reservation) if shown.reservation else None,
    )


def captured(report: CapturedReport) -> CapturedFile:
    """That a file was written; it is pykexec.capture/1 itself."""
    return CapturedFile(report.file, report.files, report.folders, report.unreadable)


def doctor(report: DoctorReport) -> Doctor:
    rows = (
        DoctorRow(item.name, item.level.value, item.evidence, item.fix or None)
        for item in report.rows
    )
    return Doctor(report.machine, len(report.problems), tuple(rows))


def explanation(report: ExplainReport) -> Explanation:
    kind = report.kind_of_error
    plan = (
        ExplainedRule(item.rule, item.ok, item.detail, item.answer) for item in report.plan or ()
    )
    return Explanation(
        report.word,
        tuple(map(kernel_check, report.checks)),
        ExplainedError(kind.code, kind.meaning, kind.exit_status) if kind else None,
        None if report.plan is None else tuple(plan),
    )


def kernel_check(item: KernelCheck) -> ExplainedCheck:
    return ExplainedCheck(item.syscall, item.stage, item.errno, item.check, item.fix, item.rules)


def diff(found: PlanDiff) -> Difference:
    return Difference(
        found.same,
        tuple(FieldDifference(item.field, item.a, item.b) for item in found.fields),
        tuple(
            PieceDifference(item.name, item.what, piece(item.a), piece(item.b))
            for item in found.pieces
        ),
    )


def piece(item: Piece | None) -> ComparedPiece | None:
    if item is None:
        return None
    return ComparedPiece(item.bufsz, item.range.start, item.range.size, item.sha256)
