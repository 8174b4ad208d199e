"""File trees as newc archives (Documentation/driver-api/early-userspace/buffer-format.rst)."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a tree: its mode as in stat(2), and its contents or link target."""

    mode: int
    contents: bytes = b""


@dataclass
class Tree:
    """Files by their path in the guest, without the leading slash."""

    entries: dict[str, Entry] = field(default_factory=dict)

    def folder(self, path: str) -> None:
        """Add a folder and its parents."""
        path = path.strip("/")
        if path and path not in self.entries:
            self.folder(os.path.dirname(path))
            self.entries[path] = Entry(stat.S_IFDIR | 0o755)

    def write(self, path: str, contents: bytes | str, mode: int = 0o644) -> None:
        """Add a file with the given contents."""
        self.folder(os.path.dirname(path.strip("/")))
        contents = contents.encode() if isinstance(contents, str) else contents
        self.entries[path.strip("/")] = Entry(stat.S_IFREG | mode, contents)

    def archive(self) -> bytes:
        """The tree as a newc archive: the same bytes for the same tree."""
        return _archive(self.entries)


def _archive(entries: Mapping[str, Entry]) -> bytes:
    """Folders come before their contents."""
    names = sorted(entries, key=lambda name: (name.count("/"), name))
    pieces: list[bytes] = []
    for inode, name in enumerate([*names, "TRAILER!!!"], 1):
        entry = entries.get(name, Entry(0))
        encoded = name.encode() + b"\0"
        size = len(entry.contents)
        fields = (inode, entry.mode, 0, 0, 1, 0, size, 0, 0, 0, 0, len(encoded), 0)
        header = b"070701" + b"".join(b"%08x" % number for number in fields) + encoded
        pieces += [header, bytes(-len(header) % 4), entry.contents, bytes(-size % 4)]
    return b"".join(pieces)
