"""pykexec-kexec with a kernel that only records calls. The kernel is an argument of the program,
which cannot reach another one: tests/backends/kernel/test_calls.py checks that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from pykexec.backends.backend import LoadState, Slot
from pykexec.backends.kernel.record import LoadRecord, RecordFile
from pykexec.cli.kexec8.drop_in import DropInKernel
from pykexec.cli.kexec8.program import run
from pykexec.machine import KexecState, Machine, SerialConsole, Unknown
from pykexec.memory.ranges import PhysRange
from tests.backends.kernel.calls import Calls
from tests.builders import MIB, make_bzimage, make_cpio, make_machine, write

REGION = PhysRange(256 * MIB, 512 * MIB)
CONFIG = {"CONFIG_KEXEC": "y", "CONFIG_KEXEC_FILE": "y"}


@dataclass
class MadeUp:
    """A machine's facts and states as set by a test, and the folder for the files that pykexec
    stages."""

    folder: Path
    made: Machine
    states: dict[Slot, LoadState] = field(
        default_factory=lambda: dict.fromkeys(Slot, LoadState.NOT_LOADED)
    )
    uarts: dict[str, SerialConsole] = field(default_factory=dict)
    """Those of ttys, by name."""

    def facts(self) -> Machine:
        answers = {LoadState.LOADED: True, LoadState.NOT_LOADED: False}
        normal, crash = (
            answers.get(self.states[slot], Unknown("not there"))
            for slot in (Slot.NORMAL, Slot.CRASH)
        )
        state = replace(self.made.kexec, loaded=normal, crash_loaded=crash)
        return replace(self.made, kexec=state)

    def stage(self, record: LoadRecord) -> None:
        """Record this load as one of pykexec."""
        self.folder.mkdir()
        RecordFile(self.folder).write(record)


@pytest.fixture
def calls(tmp_path: Path) -> Calls:
    """Recorded calls, on a system with shutdown(8)."""
    folder = tmp_path / "sbin"
    folder.mkdir()
    write(folder, "shutdown", b"#!/bin/sh\n").chmod(0o755)
    return Calls(shutdown_folders=(folder,))


@pytest.fixture
def kernel(tmp_path: Path) -> MadeUp:
    """The kernel of a machine with 1 GiB, of which 256 MiB are reserved."""
    machine = make_machine(crash_kernel=(REGION,))
    state = KexecState(crash_size=REGION.size, crash_elfcorehdr_size=0x22000)
    return MadeUp(tmp_path / "run", replace(machine, kexec=state, config=CONFIG))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with `bzImage` and `initrd`."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "bzImage", make_bzimage())
    write(tmp_path, "initrd", make_cpio(("init", bytes(4752))) + bytes(14))
    return tmp_path


@dataclass(frozen=True)
class Result:
    status: int
    out: str
    err: str


Kexec = Callable[..., Result]


@pytest.fixture
def kexec(calls: Calls, kernel: MadeUp, files: Path, capsys: pytest.CaptureFixture[str]) -> Kexec:
    """Run a command line, in one string or several; checks the exit status and returns the
    output."""

    def made(debug: bool) -> DropInKernel:
        return DropInKernel(calls, kernel.folder, debug, kernel.facts, kernel.uarts.get)

    def call(*words: str, status: int = 0) -> Result:
        argv = words[0].split() if len(words) == 1 else list(words)
        found = run(argv, made)
        captured = capsys.readouterr()
        assert found == status, captured.err
        return Result(found, captured.out, captured.err)

    return call
