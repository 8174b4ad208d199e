"""The contents of the stage: image and headers, their digests, and verification."""

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
from pykexec.placement.capture_kernel import saving_warnings
from pykexec.placement.panic_modes import staged_regions
from pykexec.placement.plan import ByNormalPlan, PanicPlan

if TYPE_CHECKING:
    from pykexec.backends.kernel.journal import Journal
    from pykexec.placement.bind import BoundPlan
    from pykexec.purgatory import Region

CHECK_CHUNK = 1 << 20
AGAIN = "unload, and load again"


class StageChanged(CheckFailed):
    """The stage does not have the contents that pykexec put there."""

    code = "stage-changed"


class StagedImage:
    """Huge pages according to the journal, and their contents according to the record."""

    def __init__(self, pages: stage.HugePageSystem, journal: Journal, records: RecordFile) -> None:
        self.pages = pages
        self.journal = journal
        self.records = records

    def bind_headers(self, addr: int, headers: bytes) -> None:
        """Write to the huge pages, which must not have moved."""
        self.unmoved().write(addr, headers)
        self.remember(sums=((addr, len(headers), hashlib.sha256(headers).hexdigest()),))

    def fill(self, bound: BoundPlan) -> tuple[Region, ...]:
        """Write image and headers to the places where the stub expects them; returns their digests,
        after comparing everything with them."""
        self.records.write(record_of(_panic_plan(bound), Slot.CRASH))
        regions = tuple(staged_regions(bound, self.unmoved().write))
        sums = tuple((item.addr, item.size, item.sha256.hex()) for item in regions)
        self.compare(self.unmoved(), sums)
        self.remember(sums=sums, described=bound.described)
        return regions

    def remember(self, **more: Any) -> None:
        """Write fields of the record that are now known."""
        if record := self.records.read():
            self.records.write(replace(record, **more))

    def unmoved(self) -> stage.HugePageStage:
        """The stage, after checking that its pages have not moved. Raises StageChanged."""
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
        """What pykexec loaded, after verifying its memory; None if it loaded nothing.

        Raises StageChanged if pages moved or bytes changed."""
        record = self.records.read()
        if record is None:
            return None
        if not record.sums:
            raise StageChanged(
                "a load was interrupted, and its stage is not complete",
                hint="run pykexec unload to release its memory",
            )
        self.compare(self.unmoved(), record.sums)
        return record

    def compare(self, staged: stage.HugePageStage, sums: Iterable[tuple[int, int, str]]) -> None:
        """Raises StageChanged if the bytes are not those that were written."""
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
        """Number of huge pages that pykexec holds."""
        found = stage.reopen(self.pages, self.journal)
        return len(found.index) if found else 0


def _panic_plan(bound: BoundPlan) -> PanicPlan:
    """The plan of an image in a stage."""
    assert isinstance(bound.plan, PanicPlan), "only the image of a panic mode has a stage"
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
