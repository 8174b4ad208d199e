"""One file with the contents of this machine's /proc and /sys, for `--root FILE` elsewhere.

The file has exactly the reads that `read_machine` makes, so the two cannot differ. It contains the
addresses of KASLR, and the command line, so its mode is 0600.
"""

from __future__ import annotations

import base64
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pykexec.documents.codec import decode as decode_document
from pykexec.documents.codec import plain
from pykexec.documents.machine import Capture, CapturedContents, CapturedNames
from pykexec.errors import KexecError, UsageError
from pykexec.host.facts import read_machine
from pykexec.host.memory import hugetlb_size
from pykexec.host.root import READ_MAX, BadRoot, Folder, Root, unreadable
from pykexec.images.contents import write_new
from pykexec.machine import Unknown

FILE_MAX = 64 << 20
"""Limit in bytes for a captured machine."""
Record = bytes | Unknown
Names = tuple[str, ...] | Unknown


def _part_name(path: str, offset: int, size: int) -> str:
    """The name of a part of a file in a captured machine."""
    return f"{path}@{offset:#x}+{size:#x}"


def _link_name(path: str) -> str:
    """The name of the target of a symbolic link in a captured machine."""
    return f"{path}@link"


@dataclass(frozen=True)
class Captured:
    """A machine that was read earlier, by path; what was not read is Unknown."""

    name: str
    files: Mapping[str, Record]
    folders: Mapping[str, Names]

    def read(self, path: str, limit: int = READ_MAX) -> bytes | Unknown:
        found = self.files.get(path, Unknown(f"{path}: not captured"))
        if isinstance(found, bytes) and len(found) > limit:
            return Unknown(f"{path}: larger than {limit} bytes")
        return found

    def head(self, path: str, size: int) -> bytes | Unknown:
        found = self.read(path, FILE_MAX)
        return found[:size] if isinstance(found, bytes) else found

    def part(self, path: str, offset: int, size: int) -> bytes | Unknown:
        found = self.read(_part_name(path, offset, size))
        if isinstance(found, bytes) and len(found) != size:
            return Unknown(f"{path}: {len(found)} of {size} bytes at {offset:#x} were captured")
        return found

    def entries(self, path: str) -> Names:
        return self.folders.get(path, Unknown(f"{path}: not captured"))

    def exists(self, path: str) -> bool | Unknown:
        folder, _, name = path.rpartition("/")
        names = self.entries(folder)
        return names if isinstance(names, Unknown) else name in names

    def link(self, path: str) -> str | Unknown:
        found = self.read(_link_name(path))
        return found if isinstance(found, Unknown) else os.fsdecode(found)

    def matching_lines(self, path: str, pattern: str) -> tuple[str, ...] | Unknown:
        found = self.read(path, FILE_MAX)
        if isinstance(found, Unknown):
            return found
        lines = found.decode("utf-8", "replace").splitlines(keepends=True)
        return tuple(line.rstrip("\n") for line in lines if re.search(pattern, line))


@dataclass
class Recorder:
    """A root that records what is read through it. It keeps only processes with huge pages, and
    this one: the others are private."""

    root: Root
    files: dict[str, Record] = field(default_factory=dict)
    folders: dict[str, Names] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.root.name

    def keep(self, path: str, found: Record) -> Record:
        old = self.files.get(path)
        if not isinstance(old, bytes) or (isinstance(found, bytes) and len(found) > len(old)):
            self.files[path] = found
        return found

    def read(self, path: str, limit: int = READ_MAX) -> bytes | Unknown:
        found = self.root.read(path, limit)
        if re.fullmatch(r"/proc/\d+/status", path) and (
            isinstance(found, Unknown) or not hugetlb_size(found.decode("utf-8", "replace"))
        ):
            return found
        return self.keep(path, found)

    def head(self, path: str, size: int) -> bytes | Unknown:
        return self.keep(path, self.root.head(path, size))

    def part(self, path: str, offset: int, size: int) -> bytes | Unknown:
        return self.keep(_part_name(path, offset, size), self.root.part(path, offset, size))

    def entries(self, path: str) -> Names:
        found = self.root.entries(path)
        self.folders[path] = found
        return found

    def exists(self, path: str) -> bool | Unknown:
        """Recorded as a folder that contains only the requested name."""
        found = self.root.exists(path)
        folder, _, name = path.rpartition("/")
        old = self.folders.get(folder, ())
        if isinstance(found, Unknown):
            self.folders.setdefault(folder, found)
        elif isinstance(old, tuple):
            self.folders[folder] = tuple(sorted({*old, *([name] if found else [])}))
        return found

    def link(self, path: str) -> str | Unknown:
        found = self.root.link(path)
        self.keep(_link_name(path), found if isinstance(found, Unknown) else os.fsencode(found))
        return found

    def matching_lines(self, path: str, pattern: str) -> tuple[str, ...] | Unknown:
        found = self.root.matching_lines(path, pattern)
        if isinstance(found, Unknown):
            self.keep(path, found)
        else:
            self.keep(path, "".join(f"{line}\n" for line in found).encode())
        return found

    def captured(self) -> Captured:
        """What was read, with /proc reduced to the recorded processes."""
        folders = dict(self.folders)
        names = folders.get("/proc")
        if isinstance(names, tuple):
            kept = {path.split("/")[2] for path in self.files if path.startswith("/proc/")}
            folders["/proc"] = tuple(name for name in names if name in kept)
        return Captured(self.root.name, dict(self.files), folders)


def capture(root: Root) -> Captured:
    """Exactly what `read_machine` reads from this root."""
    recorder = Recorder(root)
    read_machine(recorder)
    return recorder.captured()


def encode(captured: Captured) -> bytes:
    """Indented JSON with sorted paths: the same machine gives the same bytes, and the contents are
    readable."""
    document = Capture(
        {path: _contents_of(found) for path, found in sorted(captured.files.items())},
        {path: _names_of(found) for path, found in sorted(captured.folders.items())},
    )
    return (json.dumps(plain(document), indent=1) + "\n").encode()


def _contents_of(found: Record) -> CapturedContents:
    if isinstance(found, Unknown):
        return CapturedContents(unknown=found.why)
    if (plain := _as_text(found)) is not None:
        return CapturedContents(text=plain)
    return CapturedContents(base64=base64.b64encode(found).decode("ascii"))


def _names_of(found: Names) -> CapturedNames:
    if isinstance(found, Unknown):
        return CapturedNames(unknown=found.why)
    return CapturedNames(entries=found)


def _as_text(found: bytes) -> str | None:
    """The bytes as UTF-8 text; None if they are binary."""
    try:
        plain = found.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if "\0" in plain else plain


def decode(data: bytes, name: str) -> Captured:
    """The inverse of `encode`. Raises BadRoot for anything that it does not write."""
    document = _read_document(data, name)
    for path in (*document.files, *document.folders):
        if not path.startswith("/") or ".." in path.split("/") or not path.isprintable():
            raise BadRoot(f"{name}: not an absolute path: {path[:60]!r}")
    return Captured(
        name,
        {path: _record_of(name, path, found) for path, found in document.files.items()},
        {path: _entries_of(name, path, found) for path, found in document.folders.items()},
    )


def _read_document(data: bytes, name: str) -> Capture:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadRoot(f"{name}: not a captured machine: not valid JSON") from error
    if not isinstance(found, dict) or found.get("schema") != Capture.schema:
        raise BadRoot(f"{name}: not a captured machine: its schema is not {Capture.schema}")
    try:
        return decode_document(Capture, found)
    except ValueError as error:
        raise BadRoot(f"{name}: not a captured machine: {error}"[:300]) from error


def _record_of(name: str, path: str, found: CapturedContents) -> Record:
    if found.unknown is not None:
        return Unknown(found.unknown)
    if found.text is not None:
        return found.text.encode("utf-8", "replace")
    if found.base64 is None:
        raise BadRoot(f"{name}: {path[:60]}: neither text, base64 nor unknown")
    try:
        return base64.b64decode(found.base64, validate=True)
    except ValueError as error:
        raise BadRoot(f"{name}: {path[:60]}: {error}") from error


def _entries_of(name: str, path: str, found: CapturedNames) -> Names:
    if found.unknown is not None:
        return Unknown(found.unknown)
    if found.entries is None or any("/" in e or e in ("", ".", "..") for e in found.entries):
        raise BadRoot(f"{name}: {path[:60]}: neither entries nor unknown")
    return found.entries


def write_capture(captured: Captured, path: Path) -> None:
    """Create a file with mode 0600; never overwrites a file or follows a link."""
    try:
        write_new(path, [encode(captured)], 0o600)
    except FileExistsError as error:
        raise UsageError(f"{path}: already exists", hint="choose another name") from error
    except OSError as error:
        raise KexecError(f"{path}: cannot be written: {error.strerror}") from error


def open_root(path: Path) -> Root:
    """Open the argument of --root: a folder, or the file of a captured machine."""
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            return Folder(path)
        if not stat.S_ISREG(status.st_mode):
            raise BadRoot(f"{path}: neither a folder nor a captured machine")
        with open(path, "rb") as file:
            data = file.read(FILE_MAX + 1)
    except (OSError, ValueError) as error:
        reason = unreadable(str(path), error) if isinstance(error, OSError) else error
        raise BadRoot(getattr(reason, "why", f"{path}: {reason}")) from error
    if len(data) > FILE_MAX:
        raise BadRoot(f"{path}: larger than {FILE_MAX} bytes")
    return decode(data, str(path))
