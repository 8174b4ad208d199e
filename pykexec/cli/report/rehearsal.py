"""The result of `rehearse`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykexec.cli.out.blocks import Block, Facts, Lines, Segments
from pykexec.cli.report import document_parts
from pykexec.cli.report.page_parts import BAD, GOOD, Pairs, bound_facts, checks, kernel, many, size
from pykexec.cli.report.patterns import patterns
from pykexec.documents.base import span
from pykexec.documents.vmcore import RealStage, RehearsalDocument, SimulatedStage
from pykexec.flows.rehearse.simulated import RehearsalMachine

if TYPE_CHECKING:
    from pykexec.flows.rehearse.qemu import QemuMachine
    from pykexec.flows.rehearse.simulated import Rehearsal


@dataclass(frozen=True)
class RehearsalReport:
    """What was loaded, the result, and the verdict."""

    done: Rehearsal

    def document(self) -> RehearsalDocument:
        done, load = self.done, self.done.load
        return RehearsalDocument(
            engine=done.engine,
            good=done.good,
            kernel=document_parts.kernel(load.image),
            machine=_machine_of(done.stage),
            mode=str(load.mode),
            window=span(load.window) if load.window else None,
            backup_pages=load.backup_map.moved_size // load.page_size,
            backup_runs=len(load.backup_map.moved),
            program_headers=load.program_headers,
            filled_pages=done.filled,
            pattern_pages=patterns(done.patterns),
            checks=document_parts.checks(done.checks),
        )

    def page(self, verbose: int) -> list[Block]:
        done, table = self.done, self.done.load.table
        found = f"{done.patterns.right} of {done.filled} old pages"
        line = (
            f"good: {found} are readable at their original address, exactly once"
            if done.good
            else f"bad: {found} are readable at their original address; see the checks"
        )
        return [
            *([Segments(table)] if table else []),
            Facts(facts(done)),
            checks(done.checks),
            Lines([line], GOOD if done.good else BAD),
        ]


def _machine_of(stage: RehearsalMachine | QemuMachine) -> SimulatedStage | RealStage:
    if isinstance(stage, RehearsalMachine):
        return SimulatedStage(stage.memory, stage.used, stage.allocator, stage.relocate, stage.seed)
    return real_stage(stage)


def real_stage(stage: QemuMachine) -> RealStage:
    return RealStage(stage.memory, stage.used, stage.cpus, stage.reserved)


def facts(done: Rehearsal) -> Pairs:
    load, stage = done.load, done.stage
    more = (
        f"allocator {stage.allocator}, seed {stage.seed}"
        if isinstance(stage, RehearsalMachine)
        else f"{many(stage.cpus, 'CPU')}, {size(stage.reserved)} reserved"
    )
    found = [
        ("kernel", kernel(load.image)),
        ("machine", f"{size(stage.memory)}, {stage.used}% in use, {more}"),
        ("mode", str(load.mode)),
    ]
    if load.window:
        found.append(("window", f"{load.window} ({size(load.window.size)})"))
    engine = ("engine", f"{done.engine}: this machine was not touched")
    return [*found, *bound_facts(load, load.page_size), engine]
