"""Makes room for a dump: removes old ones, the oldest first, but never the newest complete one."""

from __future__ import annotations

from collections.abc import Callable

from pykexec.backends.saving.dumping import NoRoom
from pykexec.backends.saving.target import free_space, own_folders, remove_folder
from pykexec.flows.save.folders import removable, room, surplus


def make_room(parent: str, name: str, floor: int, tell: Callable[[str], None]) -> None:
    """Remove old dumps until `floor` bytes are free for the dump `name`. Raises NoRoom, OSError."""
    while True:
        free, old = free_space(parent), removable(own_folders(parent), name)
        match room(free, floor, old):
            case "enough":
                return
            case "none":
                raise NoRoom(f"only {free >> 20} MiB are free, but {floor >> 20} MiB are required")
        tell(f"removing {old[0]} to make room")
        remove_folder(parent, old[0])


def remove_surplus(parent: str, keep: int, current: str) -> list[str]:
    """Remove all but the newest `keep`, of which `current` is one; returns the removed names.
    Raises OSError."""
    gone = surplus(own_folders(parent), keep, current)
    for name in gone:
        remove_folder(parent, name)
    return gone
