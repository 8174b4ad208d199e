"""The result of `inspect` for ELF core headers (elfcorehdr)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pykexec.cli.out.blocks import Block, Facts, Table
from pykexec.cli.report.file_parts import in_both
from pykexec.cli.report.page_parts import many
from pykexec.documents.base import spans
from pykexec.documents.files import CoreHeaderContents, HeaderLoad

if TYPE_CHECKING:
    from pykexec.flows.inspect import CoreHeaders


@dataclass(frozen=True)
class CoreHeadersReport:
    """With -v, every PT_LOAD."""

    found: CoreHeaders

    def document(self) -> CoreHeaderContents:
        found = self.found
        return CoreHeaderContents(
            program_headers=found.program_headers,
            memory=found.memory,
            moved=found.moved,
            overlaps=found.overlaps,
            notes=spans(found.notes),
            loads=tuple(HeaderLoad(item.paddr, item.offset, item.size) for item in found.loads),
        )

    def page(self, verbose: int) -> list[Block]:
        found = self.found
        facts = [
            ("type", "ELF core headers (elfcorehdr)"),
            ("program headers", str(found.program_headers)),
            ("notes", many(len(found.notes), "note")),
            ("memory", f"{in_both(found.memory)} in {len(found.loads)} PT_LOADs"),
            ("moved", f"{in_both(found.moved)}: backup pages"),
            ("overlaps", str(found.overlaps)),
        ]
        if not verbose:
            return [Facts(facts)]
        rows = [
            (f"{item.paddr:#x}", f"{item.size:#x}", f"{item.offset:#x}") for item in found.loads
        ]
        return [Facts(facts), Table(("paddr", "size", "offset"), rows)]
