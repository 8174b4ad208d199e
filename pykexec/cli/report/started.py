"""The result of `exec` and `machine crash` in the simulated kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pykexec.cli.out.blocks import Block, Facts
from pykexec.cli.report.page_parts import many, size
from pykexec.documents.base import spans
from pykexec.documents.status import CapturedDump, Started

if TYPE_CHECKING:
    from pykexec.backends.simulated.backend import Switched
    from pykexec.cli.report.target import Target


@dataclass(frozen=True)
class StartedReport:
    """A simulated machine that started an image; on a real one this program no longer runs."""

    target: Target
    how: Literal["exec", "crash"]
    """"exec", or "crash" for a panic."""
    switched: Switched

    def document(self) -> Started:
        switched = self.switched
        return Started(
            self.target.backend,
            self.how,
            switched.cmdline,
            spans(switched.checked),
            CapturedDump(switched.vmcore_size, switched.loads) if switched.vmcore else None,
        )

    def page(self, verbose: int) -> list[Block]:
        switched = self.switched
        facts = [
            ("started", "the crash image, by a panic" if self.how == "crash" else "the image"),
            ("checked", ", ".join(str(item) for item in switched.checked) or "nothing"),
            ("cmdline", switched.cmdline),
        ]
        if switched.vmcore:
            loads = many(switched.loads, "PT_LOAD")
            facts.append(("vmcore", f"{switched.vmcore} ({size(switched.vmcore_size)}, {loads})"))
        return [Facts([*facts, ("backend", str(self.target))])]
