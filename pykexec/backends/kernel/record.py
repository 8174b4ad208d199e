"""What pykexec itself has loaded into this kernel: /run/pykexec/loaded.json.

The kernel reports only "loaded"; this records how pykexec loaded it, and with which memory. Written
before the load, removed after the unload.
"""

from __future__ import annotations

from typing import ClassVar

from pykexec.backends.backend import Slot
from pykexec.backends.kernel.kimage import LoadedSegment
from pykexec.backends.kernel.state_file import StateFile
from pykexec.errors import KexecError
from pykexec.frozen import dataclass
from pykexec.memory.ranges import PhysRange
from pykexec.placement.request import Mode
from pykexec.remedies import Unload


class BadRecord(KexecError):
    """A record that was not written by pykexec."""

    code = "bad-record"


@dataclass(frozen=True, slots=True)
class LoadRecord:
    """`since` is in seconds since the epoch; ranges are physical."""

    slot: Slot
    mode: Mode
    kernel: str
    since: int
    window: PhysRange
    headers: PhysRange
    sums: tuple[tuple[int, int, str], ...] = ()
    """(address, bytes, sha256) of the contents of the stage; () until it is complete."""
    entry: int = 0
    segments: tuple[LoadedSegment, ...] = ()
    """The segments passed to kexec_load(2); () until it has returned."""
    release: str | None = None
    """Release of the loaded kernel; None if unknown."""
    settle: int = 0
    """Seconds that the stub waits after its checks."""
    movable: bool = False
    """Whether the window is in movable memory."""
    lent: tuple[PhysRange, ...] = ()
    """The parts of the window that others use until the panic."""
    described: str | None = None
    """What its headers say of this machine; None where it is unknown."""
    modules: tuple[str, ...] = ()
    """Releases whose modules are in its initrd, as far as they were read."""
    warnings: tuple[str, ...] = ()
    """What may keep the capture kernel from saving a dump."""

    @property
    def modules_match(self) -> bool | None:
        """Whether the kernel's own modules are in its initrd; None if unknown."""
        return self.release in self.modules if self.release and self.modules else None


Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class RecordDocument:
    """A LoadRecord in a file; ranges are (start, end)."""

    schema: ClassVar[str] = "pykexec.loaded/1"
    slot: Slot
    mode: Mode
    kernel: str
    since: int
    window: Pair
    headers: Pair
    entry: int
    segments: tuple[tuple[int, int, int], ...]
    """(bufsz, mem, memsz)."""
    sums: tuple[tuple[int, int, str], ...]
    release: str | None
    settle: int
    movable: bool
    lent: tuple[Pair, ...]
    described: str | None
    modules: tuple[str, ...]
    warnings: tuple[str, ...]


class RecordFile(StateFile[LoadRecord, RecordDocument]):
    """The record of one load."""

    name, kind, what = "loaded.json", RecordDocument, "record"
    older: ClassVar[dict[str, object]] = {
        "release": None,
        "settle": 0,
        "movable": False,
        "lent": [],
        "described": None,
        "modules": [],
        "warnings": [],
    }
    bad = BadRecord
    remedy = "remove it, and unload both images, which releases their memory"

    def encode(self, value: LoadRecord) -> RecordDocument:
        return RecordDocument(
            slot=value.slot,
            mode=value.mode,
            kernel=value.kernel,
            since=value.since,
            window=(value.window.start, value.window.end),
            headers=(value.headers.start, value.headers.end),
            entry=value.entry,
            segments=tuple((item.bufsz, item.mem, item.memsz) for item in value.segments),
            sums=value.sums,
            release=value.release,
            settle=value.settle,
            movable=value.movable,
            lent=tuple((span.start, span.end) for span in value.lent),
            described=value.described,
            modules=value.modules,
            warnings=value.warnings,
        )

    def decode(self, found: RecordDocument) -> LoadRecord:
        return LoadRecord(
            slot=found.slot,
            mode=found.mode,
            kernel=found.kernel,
            since=found.since,
            window=PhysRange(*found.window),
            headers=PhysRange(*found.headers),
            entry=found.entry,
            segments=tuple(LoadedSegment(*item) for item in found.segments),
            sums=found.sums,
            release=found.release,
            settle=found.settle,
            movable=found.movable,
            lent=tuple(PhysRange(*span) for span in found.lent),
            described=found.described,
            modules=found.modules,
            warnings=found.warnings,
        )


def unloading(slot: Slot, rest: str = "") -> Unload:
    """The command that frees the image and its memory."""
    return Unload(slot is Slot.CRASH, "kernel", rest)
