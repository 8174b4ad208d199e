"""The result of `machine create` and `machine show`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykexec.cli.out.blocks import Block, Facts, Table
from pykexec.cli.report.document_parts import map_entries
from pykexec.cli.report.page_parts import many, size
from pykexec.documents.base import span, spans
from pykexec.documents.machine import SimulatedMachine

if TYPE_CHECKING:
    from pykexec.backends.simulated.show import MachineShow
    from pykexec.memory.ranges import PhysRange


@dataclass(frozen=True)
class MachineReport:
    """A simulated machine; `folder` as given by the user."""

    folder: str
    shown: MachineShow

    def document(self) -> SimulatedMachine:
        shown = self.shown
        return SimulatedMachine(
            memory_map=map_entries(shown.memory_map),
            in_use=spans(shown.in_use),
            free=spans(shown.free),
            kernel=spans(shown.kernel),
            images=spans(shown.images),
            reservation=span(shown.reservation) if shown.reservation else None,
        )

    def page(self, verbose: int) -> list[Block]:
        shown = self.shown
        sets = (
            ("in use", shown.in_use),
            ("free", shown.free),
            ("kernel's own", shown.kernel),
            ("images", shown.images),
        )
        facts = [("machine", self.folder)]
        for name, found in sets:
            frames = many(found.size // shown.page_size, "frame")
            facts.append((name, f"{size(found.size)}, {frames} in {many(len(found), 'run')}"))
        reserved = shown.reservation
        facts.append(("reserved", f"{reserved} ({size(reserved.size)})" if reserved else "nothing"))
        ranges = [(item.range, str(item.type)) for item in shown.memory_map.ranges]
        page: list[Block] = [Facts(facts), _spans_table(ranges, "type")]
        if verbose:
            owned = sorted((item, name) for name, found in sets for item in found)
            page.append(_spans_table(owned, "owner"))
        return page


def _spans_table(rows: list[tuple[PhysRange, str]], what: str) -> Table:
    cells = [(f"{item.start:#x}", f"{item.end:#x}", name) for item, name in rows]
    return Table(("start", "end", what), cells)
