"""What there is at a path: the contents of a file, the target of a link, or nothing."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from dataclasses import field, replace
from typing import TYPE_CHECKING

from pykexec.errors import KexecError
from pykexec.frozen import dataclass

if TYPE_CHECKING:
    from pykexec.host.root import Folder

FILE_MAX = 1 << 20
"""Limit in bytes for a configuration file."""
PLAIN = 0o644


class NotChangeable(KexecError):
    """Something at a path that is neither a small file, nor a link, nor nothing."""

    code = "not-changeable"
    usual_hint = "move it away, or see pykexec(8) for how to arm this machine by hand"


@dataclass(frozen=True, slots=True)
class FileState:
    """A file with `contents`, a symbolic link to `link`, or nothing. `mode` has the permissions of
    a file, and `owner` its user and group; both are 0 for others. `attributes` are the extended
    ones, such as SELinux's label and an ACL; they do not count in comparisons, because a new file
    gets some from the kernel."""

    contents: bytes | None = None
    link: str | None = None
    mode: int = 0
    owner: tuple[int, int] = (0, 0)
    attributes: tuple[tuple[str, bytes], ...] = field(default=(), compare=False)

    @property
    def exists(self) -> bool:
        return self.contents is not None or self.link is not None

    @property
    def text(self) -> str:
        """The contents as text; "" for anything but a file."""
        return (self.contents or b"").decode("utf-8", "replace")


NOTHING = FileState()
OF_CONTENTS = frozenset({"security.evm", "security.ima"})
"""Attributes that the kernel computes from a file, and that would be wrong for another one."""


def link_to(target: str) -> FileState:
    return FileState(link=target)


def file_with(text: str, like: FileState = NOTHING, mode: int = PLAIN) -> FileState:
    """A file with this text, and with the permissions, owner and extended attributes of the file
    that it replaces."""
    contents = text.encode("utf-8", "surrogateescape")
    if like.contents is None:
        return FileState(contents, mode=mode)
    return replace(like, contents=contents)


def read_state(root: Folder, path: str) -> FileState:
    """What there is now. Raises NotChangeable."""
    try:
        place = locate(root, path)
        status = os.lstat(place)
        if stat.S_ISLNK(status.st_mode):
            return link_to(os.readlink(place))
        if not stat.S_ISREG(status.st_mode):
            raise NotChangeable(f"{path}: not a regular file")
        if status.st_size > FILE_MAX:
            raise NotChangeable(f"{path}: larger than {FILE_MAX} bytes")
        with open(place, "rb") as file:
            contents = file.read(FILE_MAX + 1)
            attributes = _attributes(file.fileno())
    except (FileNotFoundError, NotADirectoryError):
        return NOTHING
    except OSError as error:
        raise NotChangeable(f"{path}: {(error.strerror or str(error)).lower()}") from error
    mode = stat.S_IMODE(status.st_mode)
    return FileState(contents, None, mode, (status.st_uid, status.st_gid), attributes)


def _attributes(fd: int) -> tuple[tuple[str, bytes], ...]:
    """The attributes to keep: none on a file system without them, and only those that a process may
    read."""
    try:
        names = os.listxattr(fd)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return ()
        raise
    found = []
    for name in set(names) - OF_CONTENTS:
        with suppress(OSError):
            found.append((name, os.getxattr(fd, name)))
    return tuple(sorted(found))


def locate(root: Folder, path: str) -> str:
    """The name of `path` itself under a root, even if it is a link. Raises PermissionError if its
    folder leads out of the root."""
    folder, _, name = path.rpartition("/")
    return f"{root.locate(folder or '/').rstrip('/')}/{name}"


def missing_folders(root: Folder, path: str) -> tuple[str, ...]:
    """The folders above `path` that do not exist, outermost first."""
    found: list[str] = []
    folder = path.rpartition("/")[0]
    while folder and not os.path.isdir(root.locate(folder)):
        found.append(folder)
        folder = folder.rpartition("/")[0]
    return tuple(reversed(found))
