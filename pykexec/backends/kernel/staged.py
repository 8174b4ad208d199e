"""What waits in the stage: image and headers, the sums of what was put there, and whether it
is all still so."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pykexec.backends.backend import Slot
from pykexec.backends.kernel import stage
from pykexec.backends.kernel.record import LoadRecord, RecordFile
from pykexec.errors import CheckFailed
from pykexec.placement.capture import saving_warnings
from pykexec.placement.plan import ByNormalPlan, PanicPlan

if TYPE_CHECKING:
    from pykexec.backends.kernel.journal import Journal
    from pykexec.placement.bind import BoundPlan
    from pykexec.purgatory import Region

CHECK_CHUNK = 1 << 20
AGAIN = "unload, and load again"


class StageChanged(CheckFailed):
    """What waits in the stage is not what pykexec put there."""

    code = "stage-changed"


class StagedImage:
    """Huge pages as the journal has them, and their contents as the record has those."""

    def __init__(self, pages: stage.HugePageSystem, journal: Journal, records: RecordFile) -> None:
        self.pages = pages
        self.journal = journal
        self.records = records

    def bind_headers(self, addr: int, headers: bytes) -> None:
        """Into the huge pages, which must still be where they were."""
        self.unmoved().write(addr, headers)
        self.remember(sums=((addr, len(headers), hashlib.sha256(headers).hexdigest()),))

    def fill(self, bound: BoundPlan) -> tuple[Region, ...]:
        """Image and headers at the places in which the stub will look for them, and their digests,
        with which it is all compared once more."""
        from pykexec.placement.panic_modes import staged_regions

        self.records.write(record_of(_panic_plan(bound), Slot.CRASH))
        regions = tuple(staged_regions(bound, self.unmoved().write))
        sums = tuple((item.addr, item.size, item.sha256.hex()) for item in regions)
        self.compare(self.unmoved(), sums)
        self.remember(sums=sums, described=bound.described)
        return regions

    def remember(self, **more: Any) -> None:
        """Fields of the record that are known by now."""
        if record := self.records.read():
            self.records.write(replace(record, **more))

    def unmoved(self) -> stage.HugePageStage:
        """The stage, whose pages are where the journal says. Raises StageChanged."""
        found = stage.reopen(self.pages, self.journal)
        if found is None:
            raise stage.NotStaged("nothing is staged")
        try:
            moved = found.moved()
        except FileNotFoundError as error:
            raise StageChanged(
                "the file of the stage is gone, and its huge pages with it", hint=AGAIN
            ) from error
        if moved:
            raise StageChanged(f"{len(moved)} huge pages of the stage have moved", hint=AGAIN)
        return found

    def check(self) -> LoadRecord | None:
        """What pykexec loaded, with its memory looked at again; None when it loaded nothing.

        Raises StageChanged where pages moved or bytes are others."""
        record = self.records.read()
        if record is None:
            return None
        if not record.sums:
            raise StageChanged(
                "a load was interrupted: what it was to start is not complete",
                hint="pykexec unload gives back what it took",
            )
        self.compare(self.unmoved(), record.sums)
        return record

    def compare(self, staged: stage.HugePageStage, sums: Iterable[tuple[int, int, str]]) -> None:
        """Raises StageChanged where other bytes wait than those that were written."""
        for addr, size, expected in sums:
            digest = hashlib.sha256()
            for done in range(0, size, CHECK_CHUNK):
                digest.update(staged.read(addr + done, min(CHECK_CHUNK, size - done)))
            if digest.hexdigest() != expected:
                raise StageChanged(
                    f"{size:#x} bytes at {addr:#x} of the stage are not those that were written",
                    hint=AGAIN,
                )

    def page_count(self) -> int:
        """Huge pages that are ours at the moment."""
        found = stage.reopen(self.pages, self.journal)
        return len(found.index) if found else 0


def _panic_plan(bound: BoundPlan) -> PanicPlan:
    """The plan of an image that waits in a stage."""
    assert isinstance(bound.plan, PanicPlan), "only the image of a panic mode waits in a stage"
    return bound.plan


def record_of(plan: ByNormalPlan, slot: Slot) -> LoadRecord:
    frames = plan.stage if isinstance(plan, PanicPlan) else None
    return LoadRecord(
        slot=slot,
        mode=plan.mode,
        kernel=plan.image.path,
        since=int(time.time()),
        window=plan.window,
        headers=plan.headers,
        release=plan.initrd.release,
        settle=plan.settle.seconds if isinstance(plan, PanicPlan) else 0,
        movable=frames.movable if frames else False,
        lent=frames.lent.ranges if frames else (),
        modules=plan.initrd.modules,
        warnings=(*plan.initrd.warnings, *saving_warnings(plan.cmdline)),
    )
