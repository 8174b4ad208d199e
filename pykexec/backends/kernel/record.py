"""What pykexec itself has loaded into this kernel: /run/pykexec/loaded.json.

The kernel says only "loaded"; who loaded, how, and with which memory of ours, is here.
Written before the load, removed after the unload; gone with a reboot, as the image is.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from pykexec.backends.backend import Slot
from pykexec.backends.kernel.journal import whole
from pykexec.errors import KexecError
from pykexec.memory.ranges import PhysRange
from pykexec.placement.plan import Mode

SCHEMA = "pykexec.loaded/1"
RECORD_MAX = 1 << 20


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


class RecordFile:
    """One record, replaced as a whole."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "loaded.json"

    def write(self, record: LoadRecord) -> None:
        document = {
            "schema": SCHEMA,
            "slot": str(record.slot),
            "mode": str(record.mode),
            "kernel": record.kernel,
            "since": record.since,
            "window": [record.window.start, record.window.end],
            "headers": [record.headers.start, record.headers.end],
            "sums": record.sums,
        }
        new = self.path.with_suffix(".new")
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            json.dump(document, file)
        os.replace(new, self.path)

    def read(self) -> LoadRecord | None:
        """None without one. Raises BadRecord."""
        try:
            with open(self.path, "rb") as file:
                raw = file.read(RECORD_MAX)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BadRecord(f"{self.path}: {error.strerror}".lower()) from error
        try:
            found = json.loads(raw)
            if found["schema"] != SCHEMA:
                raise ValueError(found["schema"])
            return LoadRecord(
                slot=Slot(found["slot"]),
                mode=Mode(found["mode"]),
                kernel=str(found["kernel"]),
                since=whole(found["since"]),
                window=PhysRange(*map(whole, found["window"])),
                headers=PhysRange(*map(whole, found["headers"])),
                sums=tuple((whole(a), whole(n), str(digest)) for a, n, digest in found["sums"]),
            )
        except (ValueError, TypeError, KeyError, RecursionError, KexecError) as error:
            raise BadRecord(
                f"{self.path}: not a record of pykexec", hint="pykexec unload, then remove it"
            ) from error

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.path.with_suffix(".new").unlink(missing_ok=True)


def unload_command(slot: Slot) -> str:
    """What frees the image, and gives its memory back."""
    return f"pykexec unload{' --crash' if slot is Slot.CRASH else ''} --backend kernel"
