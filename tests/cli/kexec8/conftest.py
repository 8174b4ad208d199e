"""pykexec-kexec before a kernel that only writes down what it is asked: no system call of any
test here reaches the one that runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from pykexec import libc
from pykexec.abi.kexec import KEXEC_ARCH_MASK, KexecFileFlag, KexecFlag
from pykexec.backends.backend import LoadState, Slot
from pykexec.cli.kexec8.kernel import DropInKernel
from pykexec.cli.kexec8.program import run
from pykexec.machine import KexecState, Machine
from pykexec.memory.ranges import PhysRange
from pykexec.syscalls import SyscallError
from tests.builders import MIB, make_bzimage, make_machine, write

REGION = PhysRange(256 * MIB, 512 * MIB)
CONFIG = {"CONFIG_KEXEC": "y", "CONFIG_KEXEC_FILE": "y"}


@dataclass(frozen=True)
class Loaded:
    """One kexec_load(2), with the bytes that each segment had."""

    entry: int
    flags: KexecFlag
    segments: tuple[tuple[int, int, bytes], ...]
    """(mem, memsz, bytes)."""

    @property
    def params(self) -> bytes:
        """The segment with the zero page."""
        return next(data for _, _, data in self.segments if data[0x202:0x206] == b"HdrS")

    @property
    def cmdline(self) -> str:
        return self.params[4096:].split(b"\0")[0].decode()


@dataclass
class Calls:
    """What was asked of the kernel, and what it answers: an errno by the call's name."""

    loads: list[Loaded] = field(default_factory=list)
    files: list[tuple[str, KexecFileFlag, int]] = field(default_factory=list)
    """(command line, flags, bytes of the initrd) of kexec_file_load."""
    unloads: list[KexecFlag] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """reboot, sync and exec, in their order."""
    errors: dict[str, int] = field(default_factory=dict)

    def kexec_load(
        self, entry: int, segments: Sequence[tuple[int, int, int, int]], flags: int
    ) -> None:
        import ctypes

        low = KexecFlag(flags & ~KEXEC_ARCH_MASK)
        if error := self.errors.get("kexec_load"):
            raise SyscallError("kexec_load(...)", error)
        if not segments:
            self.unloads.append(low)
            return
        copied = tuple(
            (mem, memsz, ctypes.string_at(buf, bufsz) if buf else b"")
            for buf, bufsz, mem, memsz in segments
        )
        self.loads.append(Loaded(entry, low, copied))

    def kexec_file_load(self, kernel_fd: int, initrd_fd: int, cmdline: bytes, flags: int) -> None:
        if error := self.errors.get("kexec_file_load"):
            raise SyscallError("kexec_file_load(...)", error)
        size = os.fstat(initrd_fd).st_size if initrd_fd >= 0 else 0
        self.files.append((cmdline.decode(), KexecFileFlag(flags), size))

    def reboot_kexec(self) -> None:
        self.others.append("reboot")

    @property
    def nothing(self) -> bool:
        return not (self.loads or self.files or self.unloads or self.others)


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """In place of every way out of this process."""
    found = Calls()
    monkeypatch.setattr(libc, "kexec_load", found.kexec_load)
    monkeypatch.setattr(libc, "kexec_file_load", found.kexec_file_load)
    monkeypatch.setattr(libc, "reboot_kexec", found.reboot_kexec)
    monkeypatch.setattr(os, "sync", lambda: found.others.append("sync"))
    monkeypatch.setattr(os, "execv", lambda path, argv: found.others.append(" ".join(argv)))
    return found


class FakeKernel(DropInKernel):
    """Facts and states as a test says."""

    def __init__(self, folder: Path, machine: Machine) -> None:
        super().__init__(folder)
        self.made = machine
        self.states = {Slot.NORMAL: LoadState.NOT_LOADED, Slot.CRASH: LoadState.NOT_LOADED}

    def machine(self) -> Machine:
        return self.made

    def status(self) -> dict[Slot, LoadState]:
        return self.states


@pytest.fixture
def kernel(tmp_path: Path) -> FakeKernel:
    """Of a machine with 1 GiB, 256 MiB of it reserved."""
    machine = make_machine(crash_kernel=(REGION,))
    state = KexecState(
        loaded=False, crash_loaded=False, crash_size=REGION.size, crash_elfcorehdr_size=0x22000
    )
    return FakeKernel(tmp_path / "run", replace(machine, kexec=state, config=CONFIG))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with `bzImage` and `initrd` in it."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "bzImage", make_bzimage())
    write(tmp_path, "initrd", b"070701" + bytes(5000))
    return tmp_path


@dataclass(frozen=True)
class Said:
    status: int
    out: str
    err: str


Kexec = Callable[..., Said]


@pytest.fixture
def kexec(kernel: FakeKernel, files: Path, capsys: pytest.CaptureFixture[str]) -> Kexec:
    """Words, in one string or several, to what was said; the status has to be the given one."""

    def call(*words: str, status: int = 0) -> Said:
        argv = words[0].split() if len(words) == 1 else list(words)
        kernel.debug = "-d" in argv or "--debug" in argv
        found = run(argv, kernel)
        captured = capsys.readouterr()
        assert found == status, captured.err
        return Said(found, captured.out, captured.err)

    return call
