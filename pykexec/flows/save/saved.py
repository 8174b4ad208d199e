"""The dumps that capture kernels have saved, and whether a crash left none.

While the crash dump is armed, pykexec-crash.service keeps a file with the boot ID, which a shutdown
removes. A file from another boot shows that this boot ended without a shutdown.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pykexec.backends.saving.target import mount_device
from pykexec.documents.saved import ListedDump, SavedDump, SavedDumps
from pykexec.errors import KexecError
from pykexec.flows.save.folders import INCOMPLETE, STATUS, ours
from pykexec.flows.save.saving import MOUNTED

if TYPE_CHECKING:
    from pykexec.flows.save.settings import SaveSettings

STATE = "/var/lib/pykexec"
ARMED = f"{STATE}/armed"
"""The boot ID of the boot in which the crash dump was armed."""
REPORTED = f"{STATE}/reported"
"""Names of the dumps that were reported, one on each line."""
BOOT_ID = "/proc/sys/kernel/random/boot_id"
LOST = (
    "the last boot ended without a shutdown while a crash dump was armed, and no dump was saved: "
    "the capture kernel failed, or there was no panic but a reset or a loss of power"
)
NO_STATUS = "there is no status: the capture was interrupted"


class UnreadableDumps(KexecError):
    """The folder of saved dumps cannot be read."""

    code = "unreadable-dumps"
    usual_hint = "check SAVE_FOLDER in /etc/pykexec.conf, and run as root"


@dataclass(frozen=True, slots=True)
class Seen:
    """State of this machine: boot IDs, None if missing or unreadable, and names. `since` is when
    the file of the armed boot was written, in seconds since the epoch."""

    armed: str | None
    boot: str | None
    reported: frozenset[str]
    since: float = 0


def _seen() -> Seen:
    def text(path: str) -> str | None:
        try:
            return head(Path(path)).decode("utf-8", "replace").strip()
        except OSError:
            return None

    reported = frozenset((text(REPORTED) or "").splitlines())
    return Seen(text(ARMED), text(BOOT_ID), reported, changed(ARMED) or 0)


def changed(path: str) -> float | None:
    """Seconds since the epoch; None if the file does not exist."""
    try:
        return os.stat(path).st_mtime
    except OSError:
        return None


def new_since(dumps: Iterable[ListedDump], state: Seen) -> tuple[ListedDump, ...]:
    """The dumps that were not reported yet."""
    return tuple(dump for dump in dumps if dump.name not in state.reported)


def lost(state: Seen, newest: float) -> str | None:
    """The message about a boot that ended while armed and left nothing. `newest` is when a dump was
    last saved, by pykexec or another program; one that is older than the armed boot, and only was
    never reported, is not the dump of its crash."""
    if state.armed is None or state.armed == state.boot or newest > state.since:
        return None
    return LOST


def newest_of(parent: str) -> float:
    """When a folder in `parent` that has contents was last changed, in seconds of the epoch; 0 for
    none. Files do not count: kdump-tools write a lock there at every boot."""
    try:
        with os.scandir(parent) as found:
            return max(
                (item.stat().st_mtime for item in found if item.is_dir() and _has_contents(item)),
                default=0,
            )
    except OSError:
        return 0


def _has_contents(folder: os.DirEntry[str]) -> bool:
    """Whether a file is not empty, or the folder cannot be read. kdump-tools leave an empty dump if
    makedumpfile fails in their pipe (kdump-config:kdump_save_core)."""
    try:
        with os.scandir(folder) as found:
            return any(item.stat(follow_symlinks=False).st_size for item in found)
    except OSError:
        return True


def _folder_of(settings: SaveSettings) -> str:
    """The folder with the dumps; mounts SAVE_DEVICE. Raises StepFailed, OSError."""
    if settings.device is None:
        return settings.folder
    mount_device(settings.device, MOUNTED)
    return MOUNTED + settings.folder


def listed(folder: str) -> tuple[ListedDump, ...]:
    """All dumps, oldest first. Raises UnreadableDumps."""
    try:
        names = os.listdir(folder) if os.path.isdir(folder) else []
    except OSError as error:
        raise UnreadableDumps(f"{folder}: {(error.strerror or str(error)).lower()}") from error
    return tuple(_read_one(folder, name) for name in ours(names))


def newest_saved(settings: SaveSettings) -> ListedDump | None:
    """The last dump in the folder; None if there is none, or if it cannot be seen without
    privilege or without mounting SAVE_DEVICE."""
    if settings.device is not None:
        return None
    try:
        names = ours(os.listdir(settings.folder))
    except OSError:
        return None
    return _read_one(settings.folder, names[-1]) if names else None


def _read_one(folder: str, name: str) -> ListedDump:
    """A folder without a readable status is listed with the reason."""
    from pykexec.documents.codec import decode

    path = Path(folder, name)
    plain = name.removesuffix(INCOMPLETE)
    try:
        status = decode(SavedDump, json.loads(head(path / STATUS)))
    except FileNotFoundError:
        return ListedDump(plain, str(path), False, None, NO_STATUS)
    except (OSError, ValueError, RecursionError) as error:
        return ListedDump(plain, str(path), False, None, f"{STATUS}: {error}")
    return ListedDump(plain, str(path), status.complete, status, _problem_of(status))


STATUS_MAX = 1 << 20
"""Bytes."""


def head(path: Path) -> bytes:
    """The first bytes of a regular file. Others may write to the folder: a pipe would never end,
    and a link may lead anywhere. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError("not a regular file")
        return file.read(STATUS_MAX)


def _problem_of(status: SavedDump) -> str | None:
    """Why it is not complete: the step that finally failed, or the check of the dump."""
    if status.complete:
        return None
    if status.dump and status.dump.problem:
        return status.dump.problem
    failed = [f"{step.name}: {step.problem}" for step in status.steps if step.problem]
    return failed[-1] if failed else "not all files were saved"


def all_saved(settings: SaveSettings, only_new: bool) -> SavedDumps:
    """Raises UnreadableDumps, StepFailed."""
    folder = _folder_of(settings)
    dumps, state = listed(folder), _seen()
    new = new_since(dumps, state)
    return SavedDumps(folder, new if only_new else dumps, lost(state, newest_of(folder)))
