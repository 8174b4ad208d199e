"""Two bays for a stage: one is in use, and the other takes the image that is to replace it, so
that what is armed stays armed until the kernel is given the new one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pykexec.backends.kernel import stage
from pykexec.backends.kernel.journal import Journal
from pykexec.backends.kernel.record import RecordFile
from pykexec.backends.kernel.staged import StagedImage
from pykexec.host.hugepages import HugePages

SECOND = "second"
"""Folder of the second bay, inside that of the first."""


class Bay:
    """Huge pages, the journal of how they were taken, and the record of what waits in them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pages: stage.HugePageSystem = HugePages(folder)
        self.journal = Journal(folder)
        self.records = RecordFile(folder)

    def made(self) -> Bay:
        """With its folder."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self

    @property
    def staged(self) -> StagedImage:
        return StagedImage(self.pages, self.journal, self.records)

    @property
    def is_complete(self) -> bool:
        """Whether an image may rely on it: a load writes the sums before it calls the kernel."""
        record = self.records.read()
        return record is not None and bool(record.sums)

    def give_back(self) -> None:
        """The record first: without one no image relies on the pages, and whoever comes next
        gives back what is left of them."""
        self.records.remove()
        stage.release(self.pages, self.journal)


class Bays:
    """Both of them. Which one is in use is what their records say; nothing else is written."""

    def __init__(self, folder: Path) -> None:
        self.all = (Bay(folder), Bay(folder / SECOND))

    @property
    def used(self) -> Bay:
        """The bay with a complete record, else the one with any, else the first."""
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
        """A replacement was killed around its kexec_load(2): either stage may be the armed one."""
        return all(bay.is_complete for bay in self.all)

    def give_back_unused(self) -> None:
        """What no image relies on: left by a program that was killed."""
        if self.torn:
            return
        used = self.used
        self.give_back(bay for bay in self.all if bay is not used or not bay.records.read())

    def give_back(self, bays: Iterable[Bay]) -> None:
        """A change of the pool that was interrupted is settled before the next one is made."""
        for bay in sorted(bays, key=_is_settled):
            bay.give_back()


def _is_settled(bay: Bay) -> bool:
    taken = bay.journal.read()
    return taken is None or taken.before is None
