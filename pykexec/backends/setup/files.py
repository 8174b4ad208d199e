"""Changes files so that a power failure leaves the old state or the new one."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from pykexec.host.file_state import NOTHING, PLAIN, FileState, locate

if TYPE_CHECKING:
    from pykexec.host.root import Folder


def temporary_of(path: str) -> str:
    """The name beside `path` under which its new state is prepared."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.pykexec-new"


def put(root: Folder, path: str, state: FileState) -> None:
    """Bring `path` to this state, durably. Its folder must exist. Raises OSError."""
    place, new = locate(root, path), locate(root, temporary_of(path))
    with suppress(FileNotFoundError):
        os.unlink(new)
    if state == NOTHING:
        with suppress(FileNotFoundError):
            os.unlink(place)
    else:
        try:
            _prepare(new, state)
            os.replace(new, place)
        except OSError as error:
            with suppress(OSError):
                os.unlink(new)
            error.filename = place
            raise
    sync_folder(os.path.dirname(place))


def _prepare(new: str, state: FileState) -> None:
    if state.link is not None:
        os.symlink(state.link, new)
        return
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(state.contents or b"")
        file.flush()
        if os.geteuid() == 0:
            os.fchown(fd, *state.owner)
        os.fchmod(fd, state.mode or PLAIN)
        for name, value in state.attributes:
            _set_attribute(fd, name, value)
        os.fsync(fd)


def _set_attribute(fd: int, name: str, value: bytes) -> None:
    """Those that the kernel manages itself cannot be set; that loses nothing."""
    try:
        os.setxattr(fd, name, value)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise


def make_folders(root: Folder, folders: tuple[str, ...]) -> None:
    """Make the folders that do not exist. Raises OSError."""
    for folder in folders:
        with suppress(FileExistsError):
            os.mkdir(root.locate(folder), 0o755)
            sync_folder(os.path.dirname(root.locate(folder)))


def remove_folders(root: Folder, folders: tuple[str, ...]) -> None:
    """Remove the folders that are empty, innermost first."""
    for folder in reversed(folders):
        with suppress(OSError):
            os.rmdir(root.locate(folder))


def sync_folder(place: str) -> None:
    """Sync a folder, so that its names survive a power failure. Raises OSError."""
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
