"""The result of `status`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pykexec.backends.backend import LoadState, Slot
from pykexec.cli.out.blocks import Block, Facts, Lines
from pykexec.cli.report.page_parts import CAUTION, Pairs, many, size
from pykexec.documents.base import span, spans
from pykexec.documents.status import LastDump, SimulatedStatus, Staged, Status
from pykexec.memory.ranges import RangeSet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pykexec.backends.kernel.record import LoadRecord
    from pykexec.cli.report.target import Target
    from pykexec.documents.saved import ListedDump
    from pykexec.memory.blocks import MemoryBlock


@dataclass(frozen=True)
class StagedReport:
    """What pykexec itself has loaded, and the problem that was found, if any."""

    record: LoadRecord
    huge_pages: int
    problem: str | None = None

    def document(self) -> Staged:
        record = self.record
        return Staged(
            mode=record.mode.value,
            slot=record.slot.value,
            kernel=record.kernel,
            release=record.release,
            modules=record.modules,
            modules_match=record.modules_match,
            since=record.since,
            window=span(record.window),
            lent=spans(RangeSet(record.lent)),
            huge_pages=self.huge_pages,
            settle=record.settle,
            warnings=record.warnings,
            problem=self.problem,
        )

    def facts(self) -> Pairs:
        record = self.record
        since = datetime.fromtimestamp(record.since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return [
            ("staged", f"crash by normal, mode {record.mode} ({record.slot} slot), since {since}"),
            ("kernel", record.kernel),
            ("initrd", modules(record)),
            ("window", f"{record.window} ({size(record.window.size)})"),
            *_lent_facts(record),
            ("pages", f"{many(self.huge_pages, 'huge page')} held"),
            *([("wait", f"{record.settle} s before anything is moved")] if record.settle else []),
            *(("warning", text) for text in record.warnings),
            ("check", self.problem or "every address and every digest is unchanged"),
        ]


@dataclass(frozen=True)
class StatusReport:
    """The state of both slots, and what pykexec staged for one of them."""

    target: Target
    slots: dict[Slot, LoadState]
    staged: StagedReport | None = None
    unseen: str | None = None
    """Why it is not known what pykexec staged."""
    changing: bool = False
    """Whether another pykexec was changing it."""
    simulated: StatusReport | None = None
    """Of the simulated machine, beside the real kernel's."""
    last: ListedDump | None = None
    """The dump that was saved last on this machine."""
    left_blocks: tuple[MemoryBlock, ...] = ()
    """Blocks that no image needs, and that could not be released yet."""
    left_pages: int = 0
    """Huge pages that no image needs."""
    unknown: Mapping[Slot, str] = field(default_factory=dict)
    """The reason for each slot whose state is unknown."""

    @property
    def anything(self) -> bool:
        """Whether anything is loaded; unknown counts as not loaded."""
        return LoadState.LOADED in self.slots.values()

    def document(self) -> Status:
        return Status(
            self.target.backend,
            self.slots[Slot.NORMAL].value,
            self.slots[Slot.CRASH].value,
            self.staged.document() if self.staged else None,
            self.unseen,
            self.simulated.simulation() if self.simulated else None,
            last_document(self.last) if self.last else None,
            tuple(block.name for block in self.left_blocks),
            self.left_pages,
        )

    def simulation(self) -> SimulatedStatus:
        return SimulatedStatus(
            self.target.machine.removeprefix("machine "),
            self.slots[Slot.NORMAL].value,
            self.slots[Slot.CRASH].value,
        )

    def state(self, slot: Slot) -> str:
        """The state of a slot, and why it is unknown."""
        state = str(self.slots[slot])
        return f"{state}: {self.unknown[slot]}" if slot in self.unknown else state

    def page(self, verbose: int) -> list[Block]:
        slots = [(str(slot), self.state(slot)) for slot in self.slots]
        ours = self.staged.facts() if self.staged else []
        if self.unseen:
            ours = [("staged", f"unknown: {self.unseen}")]
        if left := ", ".join(self._left()):
            ours = [*ours, ("left over", f"{left}; pykexec unload --crash tries to release it")]
        last = [("last dump", last_line(self.last))] if self.last else []
        page: list[Block] = [Facts([*slots, *ours, *last, ("backend", str(self.target))])]
        if self.target.notice:
            page.insert(0, Lines([self.target.notice], CAUTION))
        return [*page, *self.simulated.page(verbose)] if self.simulated else page

    def _left(self) -> Iterator[str]:
        """What no image needs."""
        if self.left_pages:
            yield many(self.left_pages, "huge page")
        for block in self.left_blocks:
            yield f"{block.name} ({'movable' if block.is_movable else block.state})"


def last_document(dump: ListedDump) -> LastDump:
    status = dump.status
    return LastDump(
        dump.folder,
        status.saved if status else None,
        status.reason if status else None,
        dump.complete,
        dump.problem,
    )


def last_line(dump: ListedDump) -> str:
    state = "complete" if dump.complete else f"not complete: {dump.problem}"
    reason = f", {dump.status.reason}" if dump.status and dump.status.reason else ""
    return f"{dump.folder}, {state}{reason}"


def _lent_facts(record: LoadRecord) -> Pairs:
    if not record.lent:
        return []
    lent = size(sum(span.size for span in record.lent))
    return [("lent", f"{lent} of the window are in use, and will not be in the dump")]


def modules(record: LoadRecord) -> str:
    """Whether initrd and kernel belong together."""
    if record.modules_match is None:
        return "unknown whether it belongs to the kernel: no modules were found in it"
    if record.modules_match:
        return f"has the modules of {record.release}, the kernel's release"
    found = ", ".join(record.modules)
    return f"of another kernel: its modules are for {found}, but the kernel is {record.release}"
