"""A machine is a folder: machine.json, and `ram`, its physical memory.

A command changes nothing until its one commit, and that is the rename of machine.json:

1. Memory is written to ram.new, a dump to vmcore.new, both beside what they will replace;
   `ram` gets the blocks that it will need.
2. machine.json is replaced; it has the new state, and says what is still *pending*.
3. Pending work is carried out: ram.new applied to ram, vmcore.new renamed.
4. ram.new is removed, and machine.json replaced again, with nothing pending.

Killed before 2, the folder is as before; after it, whoever opens the folder next does 3
and 4, which can be done any number of times. (Killed is meant, not unplugged: only
machine.json is synced to the disk.)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pykexec.backends.simulated.kernel.first_kernel import boot
from pykexec.backends.simulated.kernel.ram import Ram, apply_journal
from pykexec.backends.simulated.store.files import open_own, pread_all, remove, replace_file
from pykexec.backends.simulated.store.json_fields import BadMachineFile
from pykexec.backends.simulated.store.machine_file import MAX_FILE, Pending, decode, encode
from pykexec.backends.simulated.store.machine_state import MachineState
from pykexec.errors import KexecError, UsageError
from pykexec.host.lock import LOCK, locked

STATE, RAM, JOURNAL = "machine.json", "ram", "ram.new"
VMCORE, NEW_VMCORE = "vmcore", "vmcore.new"
LEFTOVERS = frozenset((LOCK, JOURNAL, STATE + ".new", NEW_VMCORE))
"""What a killed `create` leaves behind: such a folder counts as empty."""


class NotAMachine(KexecError):
    """The folder is not there, or has no machine in it."""

    code = "not-a-machine"


class FolderFailed(KexecError):
    """The file system refused: no space, no permission."""

    code = "machine-folder"


class NotEmpty(UsageError):
    """A machine is created in a folder of its own."""

    code = "not-empty"


class Session:
    """One command's turn: the state as it was, and memory that can be changed."""

    def __init__(self, path: Path, state: MachineState, ram: Ram) -> None:
        self.path = path
        self.state = state
        self.ram = ram
        self.unfinished = False
        """Committed, and what is pending has still to be done: the journal must stay."""

    def new_vmcore(self) -> int:
        """A file descriptor for the dump; it becomes `vmcore` at the commit."""
        return open_own(self.path / NEW_VMCORE, os.O_RDWR | os.O_CREAT | os.O_TRUNC)

    def commit(self, state: MachineState, *, memory: bool = True, vmcore: bool = False) -> None:
        """The one point of no return. Without `memory`, what was written to it is dropped."""
        pending = Pending(memory=memory and self.ram.changed, vmcore=vmcore)
        if pending.memory:
            self.ram.seal_journal()
            self.make_room()
        replace_file(self.path / STATE, encode(state, pending))
        self.unfinished = bool(pending)
        finish(self.path, state, pending)
        self.unfinished = False

    def make_room(self) -> None:
        """A machine that is just made has no RAM file yet, and next to nothing to put there."""
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
        """A new machine; its memory holds zeros and the kernel's notes. Raises NotEmpty,
        FolderFailed."""
        folder = cls(Path(path))
        with failing_in_words(folder.path):
            folder.path.mkdir(parents=True, exist_ok=True)
            check_empty(folder.path)
            with locked(folder.path, alone=True):
                check_empty(folder.path)
                with opened(folder.path, state, ram_fd=-1, write=True) as session:
                    boot(state.layout, session.ram)
                    session.commit(state)
        return folder

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> MachineFolder:
        """Raises NotAMachine, BadMachineFile, Busy, FolderFailed."""
        folder = cls(Path(path))
        with folder.session(write=False):
            return folder

    @property
    def vmcore(self) -> Path:
        """Where the dump of the last crash is."""
        return self.path / VMCORE

    @contextmanager
    def session(self, *, write: bool) -> Iterator[Session]:
        """Memory and state under the lock; first, what a killed command had decided is
        finished. What is not committed in a session has not happened."""
        with failing_in_words(self.path):
            if not (self.path / STATE).is_file():
                raise NotAMachine(
                    f"{self.path}: not a simulated machine, there is no {STATE} in it",
                    hint=f"pykexec machine create {self.path}",
                )
            alone = write
            while True:
                with locked(self.path, alone=alone):
                    state, pending = read_state(self.path)
                    if alone or not pending:
                        finish(self.path, state, pending)
                        ram_fd = open_own(self.path / RAM, os.O_RDONLY)
                        with opened(self.path, state, ram_fd, write=write) as session:
                            yield session
                        return
                alone = True


@contextmanager
def opened(path: Path, state: MachineState, ram_fd: int, *, write: bool) -> Iterator[Session]:
    """A session on an open RAM file (-1: there is none yet), which it closes."""
    layout = state.layout
    journal = -1
    session = None
    try:
        if ram_fd >= 0 and os.fstat(ram_fd).st_size != layout.size:
            found = os.fstat(ram_fd).st_size
            raise BadMachineFile(
                f"{path}: {RAM} has {found:#x} bytes, {layout.size:#x} were expected"
            )
        if write:
            journal = open_own(path / JOURNAL, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        session = Session(path, state, Ram(ram_fd, layout.size, layout.installed, journal))
        yield session
    finally:
        for fd in (ram_fd, journal):
            if fd >= 0:
                os.close(fd)
        if journal >= 0 and not (session and session.unfinished):
            remove(path / JOURNAL)
            remove(path / NEW_VMCORE)


def finish(path: Path, state: MachineState, pending: Pending) -> None:
    """Steps 3 and 4 for what a command, perhaps one that was killed, had decided.
    Raises BadMachineFile, OSError."""
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
    remove(path / JOURNAL)  # first: its blocks may be the last on the disk
    remove(path / NEW_VMCORE)
    replace_file(path / STATE, encode(state, Pending()))


def read_state(path: Path) -> tuple[MachineState, Pending]:
    """machine.json; raises BadMachineFile, OSError."""
    fd = open_own(path / STATE, os.O_RDONLY)
    try:
        size = os.fstat(fd).st_size
        if size > MAX_FILE:
            raise BadMachineFile(f"{path}: {STATE} has {size} bytes, it never has so many")
        raw = pread_all(fd, size, 0)
    finally:
        os.close(fd)
    try:
        return decode(raw)
    except BadMachineFile as error:
        raise BadMachineFile(f"{path}: {error.message}") from error


def check_empty(path: Path) -> None:
    found = sorted({entry.name for entry in os.scandir(path)} - LEFTOVERS)
    if found:
        raise NotEmpty(
            f"{path}: not an empty folder, there is {found[0]!r} in it",
            hint="a simulated machine needs a folder of its own",
        )


@contextmanager
def failing_in_words(path: Path) -> Iterator[None]:
    """What the file system refuses is a FolderFailed."""
    try:
        yield
    except OSError as error:
        name = f" ({os.path.basename(error.filename)})" if error.filename else ""
        raise FolderFailed(f"{path}: {error.strerror}{name}") from error
