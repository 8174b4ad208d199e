"""What pykexec itself has loaded into this kernel: /run/pykexec/loaded.json.

The kernel says only "loaded"; who loaded, how, and with which memory of ours, is here.
Written before the load, removed after the unload.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pykexec.backends.backend import Slot
from pykexec.backends.kernel.kimage import LoadedSegment
from pykexec.backends.kernel.state_file import StateFile, whole
from pykexec.errors import KexecError
from pykexec.memory.ranges import PhysRange
from pykexec.placement.request import Mode


class BadRecord(KexecError):
    """A record that was not written here."""

    code = "bad-record"


@dataclass(frozen=True, slots=True)
class LoadRecord:
    """`since` is in seconds of the epoch; ranges are physical."""

    slot: Slot
    mode: Mode
    kernel: str
    since: int
    window: PhysRange
    headers: PhysRange
    sums: tuple[tuple[int, int, str], ...] = ()
    """(address, bytes, sha256) of what was put into the stage; () until it is complete."""
    entry: int = 0
    segments: tuple[LoadedSegment, ...] = ()
    """What kexec_load(2) was given; () until it has returned."""
    release: str | None = None
    """Of the kernel that was loaded; None where it is unknown."""
    modules: tuple[str, ...] = ()
    """Releases whose modules are in its initrd, as far as they were read."""

    @property
    def modules_match(self) -> bool | None:
        """Whether the kernel finds modules of its own in its initrd; None where it is unknown."""
        return self.release in self.modules if self.release and self.modules else None


class RecordFile(StateFile[LoadRecord]):
    """Of one load."""

    name, schema, what = "loaded.json", "pykexec.loaded/1", "record"
    bad = BadRecord
    remedy = "remove it, and unload both images: that gives their memory back"

    def encode(self, value: LoadRecord) -> dict[str, object]:
        return {
            "slot": str(value.slot),
            "mode": str(value.mode),
            "kernel": value.kernel,
            "since": value.since,
            "window": [value.window.start, value.window.end],
            "headers": [value.headers.start, value.headers.end],
            "entry": value.entry,
            "segments": [(item.bufsz, item.mem, item.memsz) for item in value.segments],
            "sums": value.sums,
            "release": value.release,
            "modules": value.modules,
        }

    def decode(self, found: dict[str, Any]) -> LoadRecord:
        return LoadRecord(
            slot=Slot(found["slot"]),
            mode=Mode(found["mode"]),
            kernel=str(found["kernel"]),
            since=whole(found["since"]),
            window=PhysRange(*map(whole, found["window"])),
            headers=PhysRange(*map(whole, found["headers"])),
            entry=whole(found["entry"]),
            segments=tuple(LoadedSegment(*map(whole, item)) for item in found["segments"]),
            sums=tuple((whole(a), whole(n), str(digest)) for a, n, digest in found["sums"]),
            release=None if found.get("release") is None else str(found["release"]),
            modules=tuple(map(str, found.get("modules", ()))),
        )


def unload_command(slot: Slot) -> str:
    """What frees the image, and gives its memory back."""
    return f"pykexec unload{' --crash' if slot is Slot.CRASH else ''} --backend kernel"
