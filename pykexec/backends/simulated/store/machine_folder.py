"""A machine is a folder: machine.json, and `ram`, its physical memory.

A command changes nothing until its single commit, which is the rename of machine.json:

1. Memory is written to ram.new, a dump to vmcore.new, both next to what they will replace;
   `ram` gets the blocks that it will need.
2. machine.json is replaced; it has the new state, and lists what is still *pending*.
3. Pending work is done: ram.new is applied to ram, vmcore.new renamed.
4. ram.new is removed, and machine.json replaced again, with nothing pending.

If the command is killed before 2, the folder is unchanged; after 2, the next process that opens the
folder does 3 and 4, which can be repeated any number of times. (This does not cover a loss of
power: only machine.json is synced to disk.)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pykexec.backends.simulated.kernel.first_kernel import boot
from pykexec.backends.simulated.kernel.ram import Ram, apply_journal
from pykexec.backends.simulated.store.files import open_own, pread_all, remove, replace_file
from pykexec.backends.simulated.store.json_fields import BadMachineFile
from pykexec.backends.simulated.store.machine_file import MAX_FILE, Pending, decode, encode
from pykexec.errors import KexecError, UsageError
from pykexec.host.lock import LOCK, locked

if TYPE_CHECKING:
    from pykexec.backends.simulated.store.machine_state import MachineState

STATE, RAM, JOURNAL = "machine.json", "ram", "ram.new"
VMCORE, NEW_VMCORE = "vmcore", "vmcore.new"
LEFTOVERS = frozenset((LOCK, JOURNAL, STATE + ".new", NEW_VMCORE))
"""Files that a killed `create` leaves behind: a folder with only these counts as empty."""


class NotAMachine(KexecError):
    """The folder does not exist, or does not contain a machine."""

    code = "not-a-machine"


class FolderFailed(KexecError):
    """An error of the file system, such as no space or no permission."""

    code = "machine-folder"


class NotEmpty(UsageError):
    """The folder for a new machine must be empty."""

    code = "not-empty"


class FolderTurn:
    """The turn of one command: the old state, and memory that can be changed."""

    def __init__(self, path: Path, state: MachineState, ram: Ram) -> None:
        self.path = path
        self.state = state
        self.ram = ram
        self.unfinished = False
        """Committed, with pending work: the journal must be kept."""

    def new_vmcore(self) -> int:
        """A file descriptor for the dump; it becomes `vmcore` at the commit."""
        return open_own(self.path / NEW_VMCORE, os.O_RDWR | os.O_CREAT | os.O_TRUNC)

    def commit(self, state: MachineState, *, memory: bool = True, vmcore: bool = False) -> None:
        """The point of no return. Without `memory`, writes to memory are dropped."""
        pending = Pending(memory=memory and self.ram.changed, vmcore=vmcore)
        if pending.memory:
            self.ram.seal_journal()
            self.make_room()
        replace_file(self.path / STATE, encode(state, pending))
        self.unfinished = bool(pending)
        _finish(self.path, state, pending)
        self.unfinished = False

    def make_room(self) -> None:
        """A new machine has no RAM file yet, and little to put there."""
        if self.ram.ram_fd < 0:
            return
        fd = open_own(self.path / RAM, os.O_RDWR)
        try:
            self.ram.make_room(fd)
        finally:
            os.close(fd)


@dataclass(frozen=True)
class MachineFolder:
    """`create` or `open` one; everything else happens in a `session`."""

    path: Path

    @classmethod
    def create(cls, path: str | os.PathLike[str], state: MachineState) -> MachineFolder:
        """Create a machine; its memory has zeros and the kernel's notes. Raises NotEmpty,
        FolderFailed."""
        folder = cls(Path(path))
        with _folder_failing(folder.path):
            folder.path.mkdir(parents=True, exist_ok=True)
            _check_empty(folder.path)
            with locked(folder.path, alone=True):
                _check_empty(folder.path)
                with _opened(folder.path, state, ram_fd=-1, write=True) as session:
                    boot(state.layout, session.ram)
                    session.commit(state)
        return folder

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> MachineFolder:
        """Raises NotAMachine, BadMachineFile, Busy, NoLocks, FolderFailed."""
        folder = cls(Path(path))
        with folder.session(write=False):
            return folder

    @property
    def vmcore(self) -> Path:
        """The path of the last crash's dump."""
        return self.path / VMCORE

    @contextmanager
    def session(self, *, write: bool) -> Iterator[FolderTurn]:
        """Memory and state under the lock, after finishing the work of a killed command. Changes
        that are not committed in a session have no effect."""
        with _folder_failing(self.path):
            if not (self.path / STATE).is_file():
                raise NotAMachine(
                    f"{self.path}: not a simulated machine, because it has no {STATE}",
                    hint=f"use pykexec machine create {self.path}",
                )
            alone = write
            while True:
                with locked(self.path, alone=alone):
                    state, pending = _read_state(self.path)
                    if alone or not pending:
                        _finish(self.path, state, pending)
                        ram_fd = open_own(self.path / RAM, os.O_RDONLY)
                        with _opened(self.path, state, ram_fd, write=write) as session:
                            yield session
                        return
                alone = True


@contextmanager
def _opened(path: Path, state: MachineState, ram_fd: int, *, write: bool) -> Iterator[FolderTurn]:
    """A session on an open RAM file (-1 if there is none yet), which it closes."""
    layout = state.layout
    journal = -1
    session = None
    try:
        if ram_fd >= 0 and os.fstat(ram_fd).st_size != layout.size:
            found = os.fstat(ram_fd).st_size
            raise BadMachineFile(f"{path}: {RAM} has {found:#x} bytes, expected {layout.size:#x}")
        if write:
            journal = open_own(path / JOURNAL, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        session = FolderTurn(path, state, Ram(ram_fd, layout.size, layout.installed, journal))
        yield session
    finally:
        for fd in (ram_fd, journal):
            if fd >= 0:
                os.close(fd)
        if journal >= 0 and not (session and session.unfinished):
            remove(path / JOURNAL)
            remove(path / NEW_VMCORE)


def _finish(path: Path, state: MachineState, pending: Pending) -> None:
    """Steps 3 and 4 for the work that a command, possibly a killed one, committed. Raises
    BadMachineFile, OSError."""
    if not pending:
        return
    if pending.memory and (path / JOURNAL).exists():
        ram = open_own(path / RAM, os.O_RDWR | os.O_CREAT)
        try:
            journal = open_own(path / JOURNAL, os.O_RDONLY)
            try:
                apply_journal(journal, ram, state.layout.size)
            finally:
                os.close(journal)
        finally:
            os.close(ram)
    if pending.vmcore and (path / NEW_VMCORE).exists():
        remove(path / VMCORE)  # ext4 writes a file out before it replaces another
        os.replace(path / NEW_VMCORE, path / VMCORE)
    remove(path / JOURNAL)  # first, because the disk may be full
    remove(path / NEW_VMCORE)
    replace_file(path / STATE, encode(state, Pending()))


def _read_state(path: Path) -> tuple[MachineState, Pending]:
    """machine.json; raises BadMachineFile, OSError."""
    fd = open_own(path / STATE, os.O_RDONLY)
    try:
        size = os.fstat(fd).st_size
        if size > MAX_FILE:
            raise BadMachineFile(f"{path}: {STATE} has {size} bytes, which is too many")
        raw = pread_all(fd, size, 0)
    finally:
        os.close(fd)
    try:
        return decode(raw)
    except BadMachineFile as error:
        raise BadMachineFile(f"{path}: {error.message}") from error


def _check_empty(path: Path) -> None:
    found = sorted({entry.name for entry in os.scandir(path)} - LEFTOVERS)
    if found:
        raise NotEmpty(
            f"{path}: not an empty folder: it contains {found[0]!r}",
            hint="use an empty or new folder for a simulated machine",
        )


@contextmanager
def _folder_failing(path: Path) -> Iterator[None]:
    """Turns errors of the file system into FolderFailed."""
    try:
        yield
    except OSError as error:
        name = f" ({os.path.basename(error.filename)})" if error.filename else ""
        raise FolderFailed(f"{path}: {error.strerror}{name}") from error
