"""Two bays for a stage: one is in use, and the other is for the image that will replace it, so that
the old one stays armed until the kernel gets the new one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pykexec.backends.kernel import stage
from pykexec.backends.kernel.journal import Journal
from pykexec.backends.kernel.record import RecordFile
from pykexec.backends.kernel.staged import StagedImage
from pykexec.host.hugepages import HugePages

SECOND = "second"
"""Directory of the second bay, inside that of the first."""


class Bay:
    """Huge pages, the journal of their allocation, and the record of their contents."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pages: stage.HugePageSystem = HugePages(folder)
        self.journal = Journal(folder)
        self.records = RecordFile(folder)

    def made(self) -> Bay:
        """Create its directory."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self

    @property
    def staged(self) -> StagedImage:
        return StagedImage(self.pages, self.journal, self.records)

    @property
    def is_complete(self) -> bool:
        """Whether an image may rely on it: a load writes the digests before it calls the kernel."""
        record = self.records.read()
        return record is not None and bool(record.sums)

    def give_back(self) -> None:
        """Remove the record first: without one no image relies on the pages, and the next program
        releases what is left of them."""
        self.records.remove()
        stage.release(self.pages, self.journal)


class Bays:
    """Both bays. Only their records determine which one is in use."""

    def __init__(self, folder: Path) -> None:
        self.all = (Bay(folder), Bay(folder / SECOND))

    @property
    def used(self) -> Bay:
        """The bay with a complete record, otherwise one with any record, otherwise the first."""
        first, second = self.all
        if second.is_complete and not first.is_complete:
            return second
        if second.records.read() and not first.records.read():
            return second
        return first

    @property
    def spare(self) -> Bay:
        first, second = self.all
        return second if self.used is first else first

    @property
    def torn(self) -> bool:
        """Whether a replacement was killed around its kexec_load(2): then either stage may be the
        armed one."""
        return all(bay.is_complete for bay in self.all)

    def give_back_unused(self) -> None:
        """Release what no image relies on: left by a killed program."""
        if self.torn:
            return
        used = self.used
        self.give_back(bay for bay in self.all if bay is not used or not bay.records.read())

    def give_back(self, bays: Iterable[Bay]) -> None:
        """Settle an interrupted change of the pool before making the next one."""
        for bay in sorted(bays, key=_is_settled):
            bay.give_back()


def _is_settled(bay: Bay) -> bool:
    taken = bay.journal.read()
    return taken is None or taken.before is None
