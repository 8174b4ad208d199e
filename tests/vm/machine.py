"""One QEMU process from start to end.

the console       of both kernels: ttyS0, on arm64 ttyAMA0
the control line  requests of the guest's command `host`, answers of the session: ttyS1, on arm64
                  ttyS0
/dev/vda          raw disk for `copyout` of the first kernel
/dev/vdb          the same for the second kernel
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pykexec.qemu.board import DELAY_LOOP, NO_CMPXCHG16B, ONE_THREAD
from tests.documents import check_files

from .debian import guest_place
from .session import NO_STATUS, TIMED_OUT, Mark, Qmp, Session

__all__ = ["NO_STATUS", "TIMED_OUT", "Machine", "Mark", "Qmp", "Result"]

DISK_MIB = 16384  # sparse
STAGES = ("first", "second")
SO_SNDBUFFORCE = 32  # asm-generic/socket.h; as root
CONSOLE_ROOM = 64 << 20
BOOTS = 3
BOOT_SECONDS = 150
"""Limit until the kernel's first process, which takes five to ten."""
NAMES = {TIMED_OUT: " (timed out)", NO_STATUS: " (the machine ended or reset)"}
TRIPLE_FAULT = "Triple fault"
REGISTERS = 24  # lines that QEMU prints for a CPU


@dataclass(frozen=True)
class Result:
    """The result of a run: exit status, time in seconds, console, marks (texts of `host mark`).

    `console_lines` are the console's lines, with the time at which each was complete. `files` has
    the folders `first` and `second` with what each kernel copied out, and the console as
    console.log. `qemu_output` is QEMU's exit and output. `booted` is whether the first kernel
    reached its first process.
    """

    status: int
    seconds: float
    console: str
    marks: tuple[Mark, ...]
    files: Path
    qemu_output: str = ""
    console_lines: tuple[Mark, ...] = ()
    booted: bool = True

    def expect(self, status: int = 0) -> Self:
        """This result, if the run ended with `status`; otherwise raises AssertionError with the
        console."""
        if self.status == status:
            return self
        raise AssertionError(f"instead of status {status}: {self.story()}")

    def story(self) -> str:
        """Everything that helps to understand an unexpected end."""
        marks = "\n".join(f"  {mark.seconds:6.1f} s  {mark.text}" for mark in self.marks)
        lines = self.console.splitlines()
        known = self.console_lines
        last = f", the last complete after {known[-1].seconds} s" if known else ""
        tail = "\n".join(lines[-80:])
        return (
            f"status {self.status}{NAMES.get(self.status, '')} after {self.seconds:.1f} s\n"
            f"{marks or '  no mark'}\n{self.qemu_output}\n"
            f"{len(lines)} lines of console{last}\n{tail}"
        )

    def seconds_at(self, text: str) -> float:
        """The time of the first mark that contains `text`, in seconds after the start."""
        for mark in self.marks:
            if text in mark.text:
                return mark.seconds
        raise AssertionError(f"no mark {text!r} among {[mark.text for mark in self.marks]}")

    def seconds_at_console(self, text: str, *, first: bool = False) -> float:
        """The time at which the last console line that contains `text`, or the first one, was
        complete, likewise."""
        for line in self.console_lines if first else reversed(self.console_lines):
            if text in line.text:
                return line.seconds
        raise AssertionError(f"no line {text!r} on the console")


@dataclass(frozen=True)
class Board:
    """What QEMU needs to know about an architecture."""

    program: str
    package: str
    cpu: str
    cpu_suffix: str
    words: tuple[str, ...]
    """Options that select the machine."""
    control: tuple[str, ...]
    """Options that connect the control line."""
    control_device: str
    """Its name in the guest."""
    append: str
    """The first words of the kernel's command line."""


PC = Board(
    program="qemu-system-x86_64",
    package="qemu-system-x86",
    cpu="qemu64",
    cpu_suffix=NO_CMPXCHG16B,
    words=(),
    control=("-serial", "chardev:control"),
    control_device="/dev/ttyS1",
    append=f"console=ttyS0 panic=1 {DELAY_LOOP}",
)
VIRT = Board(
    program="qemu-system-aarch64",
    package="qemu-system-arm",
    cpu="cortex-a57",
    cpu_suffix="",
    words=("-M", "virt"),
    control=("-device", "pci-serial,chardev=control"),
    control_device="/dev/ttyS0",
    append="console=ttyAMA0 panic=1",
)
"""arm64. QEMU models no caches."""


@dataclass(frozen=True)
class Machine:
    """A computer: kernel, initramfs, command line, memory in MiB, CPUs."""

    qemu: str
    kernel: Path
    initrd: Path
    append: str = ""
    mem_mib: int = 1024
    smp: int = 1
    cpu: str = ""
    """Empty for that of the board."""
    accel: str = ONE_THREAD
    arguments: tuple[str, ...] = ()
    board: Board = PC

    def command(self, channels: Mapping[str, int], disks: list[Path], log: Path) -> list[str]:
        """QEMU's command line; a channel is a connected socket that QEMU inherits. QEMU logs
        resets, with the registers."""
        # -no-reboot: a guest that resets itself ends QEMU. A kexec is not a reset.
        words = [
            *(self.qemu, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-d", "cpu_reset", "-D", str(log), *self.board.words),
            *("-accel", self.accel, "-cpu", (self.cpu or self.board.cpu) + self.board.cpu_suffix),
            *("-m", str(self.mem_mib), "-smp", str(self.smp)),
            *("-kernel", str(self.kernel), "-initrd", str(self.initrd)),
            *("-append", f"{self.board.append} {self.append}".strip()),
        ]
        for name, descriptor in channels.items():
            words += ["-chardev", f"socket,id={name},fd={descriptor}"]
        words += ["-serial", "chardev:console", *self.board.control]
        words += ["-mon", "chardev=qmp,mode=control"]
        for disk in disks:
            words += ["-drive", f"if=virtio,format=raw,cache=unsafe,file={disk}"]
        words += self.arguments
        # QEMU must not outlive a test run that is killed.
        setpriv = shutil.which("setpriv")
        return [setpriv, "--pdeathsig", "KILL", *words] if setpriv else words

    def run(
        self,
        files: Path,
        timeout_s: float = 300,
        on_mark: Callable[[str, Qmp], object] | None = None,
        on_console: Callable[[str, Qmp], object] | None = None,
    ) -> Result:
        """Boot, and wait for `host exit`; as many machines at a time as `guest_place` allows.

        `on_mark` is called with each mark's text, `on_console` with each line of the console; both
        may send QMP commands. A kernel that crashes or hangs before its first process, which
        occasionally happens under TCG, has nothing to do with the test: it is restarted, with a
        warning.
        """
        with guest_place():
            return self.run_here(files, timeout_s, on_mark, on_console)

    def run_here(
        self,
        files: Path,
        timeout_s: float = 300,
        on_mark: Callable[[str, Qmp], object] | None = None,
        on_console: Callable[[str, Qmp], object] | None = None,
    ) -> Result:
        """The same, for a caller that has a place for all its machines."""
        for _ in range(BOOTS - 1):
            result = self.run_once(files, timeout_s, on_mark, on_console)
            if result.booted:
                return result
            warnings.warn(f"the first kernel did not boot: {result.story()}", stacklevel=2)
        return self.run_once(files, timeout_s, on_mark, on_console)

    def run_once(
        self,
        files: Path,
        timeout_s: float,
        on_mark: Callable[[str, Qmp], object] | None,
        on_console: Callable[[str, Qmp], object] | None,
    ) -> Result:
        """Run one process."""
        with ExitStack() as stack:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pykexec-vm-")))
            files.mkdir(parents=True, exist_ok=True)
            disks = [work / f"{stage}.img" for stage in STAGES]
            for disk in disks:
                disk.touch()
                os.truncate(disk, DISK_MIB << 20)
            pairs = {name: socket.socketpair() for name in ("console", "control", "qmp")}
            widen(pairs["console"][1])
            for pair in pairs.values():
                stack.callback(pair[0].close)
            shown = stack.enter_context(open(work / "said", "w+"))
            resets = work / "resets"
            resets.touch()
            ends = {name: pair[1].fileno() for name, pair in pairs.items()}
            start = time.monotonic()
            process = subprocess.Popen(
                self.command(ends, disks, resets),
                stdin=subprocess.DEVNULL,
                stdout=shown,
                stderr=shown,
                pass_fds=tuple(ends.values()),
            )
            stack.callback(_end, process)
            for pair in pairs.values():
                pair[1].close()
            log = stack.enter_context(open(files / "console.log", "wb", buffering=0))
            session = Session(
                pairs["console"][0], pairs["control"][0], log, files, on_mark, start, on_console
            )
            status = session.serve(pairs["qmp"][0], start + BOOT_SECONDS, start + timeout_s)
            seconds = time.monotonic() - start
            # Its sockets close shortly before it ends.
            how = _end(process, 10 if status == NO_STATUS else 0)
            session.show_the_rest()
            shown.seek(0)
            cut = [_unpack(disk, files / stage) for stage, disk in zip(STAGES, disks, strict=True)]
            check_files(files)
            words = [f"QEMU {how}", shown.read(), _triple_fault(resets.read_text(errors="replace"))]
            return Result(
                status,
                seconds,
                (files / "console.log").read_text(errors="replace"),
                tuple(session.marks),
                files,
                "\n".join(filter(None, [*words, *cut])),
                tuple(session.console_lines),
                session.booted,
            )


def widen(console: socket.socket) -> None:
    """QEMU drops output that does not fit into its socket, where each character takes a separate
    buffer: make room for some ten thousand, as far as this computer allows."""
    with suppress(OSError):
        console.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CONSOLE_ROOM)
        console.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, CONSOLE_ROOM)


def _end(process: subprocess.Popen[bytes], grace_s: float = 0) -> str:
    """How a process ended; kills it if it is still running."""
    with suppress(subprocess.TimeoutExpired):
        return f"ended with status {process.wait(grace_s)}"
    process.kill()
    process.wait()
    return "was running"


def _triple_fault(resets: str) -> str:
    """The registers of a CPU after a triple fault, or an empty text."""
    _, found, registers = resets.rpartition(TRIPLE_FAULT)
    return "\n".join((found + registers).splitlines()[:REGISTERS]) if found else ""


def _unpack(disk: Path, target: Path) -> str:
    """An empty text, or what is wrong with an archive: a guest may end while it writes."""
    target.mkdir(exist_ok=True)
    with open(disk, "rb") as image:
        if not image.read(512).strip(b"\0"):
            return ""  # nothing was copied out
        image.seek(0)
        try:
            with tarfile.open(fileobj=image, mode="r:") as tar:
                tar.extractall(target, filter="data")
        except tarfile.TarError as error:
            return f"what the {target.name} kernel copied out: {error}"
    return ""
