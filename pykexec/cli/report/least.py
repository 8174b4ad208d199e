"""The result of `rehearse --least`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykexec.cli.out.blocks import Block, Facts, Lines, Table
from pykexec.cli.report import document_parts
from pykexec.cli.report.page_parts import GOOD, kernel, many, size
from pykexec.cli.report.rehearsal import real_stage
from pykexec.documents.least import LeastDocument, TriedWindow

if TYPE_CHECKING:
    from pykexec.flows.rehearse.least import Least


@dataclass(frozen=True)
class LeastReport:
    """The tries, and the resulting option."""

    found: Least

    def document(self) -> LeastDocument:
        found = self.found
        return LeastDocument(
            kernel=document_parts.kernel(found.image),
            machine=real_stage(found.stage),
            tries=tuple(TriedWindow(i.size, i.good, i.why or None) for i in found.tries),
            least=found.least,
            too_small=found.too_small,
            margin=found.margin,
            crash_size=found.advised,
            option=found.option,
            estimate=found.estimate,
            rehearsal_files=found.own,
        )

    def page(self, verbose: int) -> list[Block]:
        found = self.found
        rows = [(size(item.size), item.why or "enough") for item in found.tries]
        stage = found.stage
        facts = [
            ("kernel", kernel(found.image)),
            ("machine", f"{size(stage.memory)}, {stage.used}% in use, {many(stage.cpus, 'CPU')}"),
            ("least", f"{size(found.least)}; {size(found.too_small)} is too small"),
            ("margin", size(found.margin)),
            ("estimate", f"{size(found.estimate)} without --crash-size"),
            ("initrd", f"{size(found.own)} of it, compressed, belong to the rehearsal itself"),
        ]
        return [
            Table(("window", "result"), rows),
            Facts(facts),
            Lines([f"use {found.option}"], GOOD),
        ]
