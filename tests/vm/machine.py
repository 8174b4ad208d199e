"""One QEMU process from start to end.

ttyS0       the console of both kernels
ttyS1       a control line: the guest's command `host` asks, this module answers
/dev/vda    raw disk that takes what the first kernel gives to `copyout`
/dev/vdb    the same for the second kernel
"""

from __future__ import annotations

import json
import os
import re
import selectors
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pykexec.qemu.machine import DELAY_LOOP, NO_CMPXCHG16B, ONE_THREAD

from .debian import locked

TIMED_OUT = 124
NO_STATUS = 125  # QEMU ended, or the guest reset itself, and no payload had finished
DISK_MIB = 16384  # sparse
STAGES = ("first", "second")
TERMINAL_CONTROL = re.compile(r"\x1b\[[0-9;=?]*[A-Za-z]")
"""EFI firmware clears the screen on every serial line, before the guest's first request."""


@dataclass(frozen=True)
class Mark:
    """A text that the guest sent, and when it came, in seconds after the start of QEMU."""

    seconds: float
    text: str


@dataclass(frozen=True)
class Result:
    """What came of a run: exit status, time in seconds, console, marks (texts of `host mark`).

    `console_lines` are the console's lines, with the time at which each was complete. `files` has
    the folders `first` and `second` with what each kernel copied out, and the console as
    console.log.
    """

    status: int
    seconds: float
    console: str
    marks: tuple[Mark, ...]
    files: Path
    qemu_said: str = ""
    console_lines: tuple[Mark, ...] = ()

    def expect(self, status: int = 0) -> Self:
        """This result, if the run ended with `status`; else an AssertionError with the console."""
        if self.status == status:
            return self
        names = {TIMED_OUT: " (timed out)", NO_STATUS: " (the machine ended or reset)"}
        marks = "".join(f"  {mark.seconds:6.1f} s  {mark.text}\n" for mark in self.marks)
        tail = "\n".join(self.console.splitlines()[-80:])
        raise AssertionError(
            f"status {self.status}{names.get(self.status, '')} instead of {status} "
            f"after {self.seconds:.1f} s\n{marks}{self.qemu_said}\n{tail}"
        )

    def seconds_at(self, text: str) -> float:
        """When the first mark that contains `text` came, in seconds after the start."""
        for mark in self.marks:
            if text in mark.text:
                return mark.seconds
        raise AssertionError(f"no mark {text!r} among {[mark.text for mark in self.marks]}")

    def seconds_at_console(self, text: str) -> float:
        """When the last line of the console that contains `text` was complete, likewise."""
        for line in reversed(self.console_lines):
            if text in line.text:
                return line.seconds
        raise AssertionError(f"no line {text!r} on the console")


class Qmp:
    """QEMU's control protocol."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(120)
        self._file = connection.makefile("rw")
        self._line()  # greeting
        self("qmp_capabilities")

    def __call__(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """The answer to a command; RuntimeError with QEMU's words if it refuses."""
        self._file.write(json.dumps({"execute": command, "arguments": arguments or {}}) + "\n")
        self._file.flush()
        while True:
            answer = self._line()
            if "error" in answer:
                raise RuntimeError(f"{command}: {answer['error'].get('desc')}")
            if "return" in answer:
                return answer["return"]

    def nmi(self) -> None:
        """A non-maskable interrupt to every CPU."""
        self("inject-nmi")

    def _line(self) -> dict[str, Any]:
        line = self._file.readline()
        if not line:
            raise ConnectionError("QEMU has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


@dataclass(frozen=True)
class Machine:
    """A computer: kernel, initramfs, command line, memory in MiB, CPUs."""

    qemu: str
    kernel: Path
    initrd: Path
    append: str = ""
    mem_mib: int = 1024
    smp: int = 1
    cpu: str = "qemu64"
    accel: str = ONE_THREAD
    arguments: tuple[str, ...] = ()

    def command(self, channels: Mapping[str, int], disks: list[Path]) -> list[str]:
        """QEMU's command line; a channel is a connected socket that QEMU inherits."""
        # -no-reboot: a guest that resets itself ends QEMU. A kexec is no reset.
        words = [
            *(self.qemu, "-nodefaults", "-display", "none", "-no-reboot"),
            *("-accel", self.accel, "-cpu", self.cpu + NO_CMPXCHG16B),
            *("-m", str(self.mem_mib), "-smp", str(self.smp)),
            *("-kernel", str(self.kernel), "-initrd", str(self.initrd)),
            *("-append", f"console=ttyS0 panic=1 {DELAY_LOOP} {self.append}".strip()),
        ]
        for name, descriptor in channels.items():
            words += ["-chardev", f"socket,id={name},fd={descriptor}"]
        words += ["-serial", "chardev:console", "-serial", "chardev:control"]
        words += ["-mon", "chardev=qmp,mode=control"]
        for disk in disks:
            words += ["-drive", f"if=virtio,format=raw,cache=unsafe,file={disk}"]
        words += self.arguments
        # QEMU is not to outlive a test run that is killed.
        setpriv = shutil.which("setpriv")
        return [setpriv, "--pdeathsig", "KILL", *words] if setpriv else words

    def run(
        self,
        files: Path,
        timeout_s: float = 300,
        on_mark: Callable[[str, Qmp], object] | None = None,
    ) -> Result:
        """Boot, and wait for `host exit`; one machine at a time on this computer.

        `on_mark` is called with each mark's text, and may send QMP commands.
        """
        with ExitStack() as stack:
            stack.enter_context(locked("machine"))
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pykexec-vm-")))
            files.mkdir(parents=True, exist_ok=True)
            disks = [work / f"{stage}.img" for stage in STAGES]
            for disk in disks:
                disk.touch()
                os.truncate(disk, DISK_MIB << 20)
            pairs = {name: socket.socketpair() for name in ("console", "control", "qmp")}
            for pair in pairs.values():
                stack.callback(pair[0].close)
            said = stack.enter_context(open(work / "said", "w+"))
            ends = {name: pair[1].fileno() for name, pair in pairs.items()}
            start = time.monotonic()
            process = subprocess.Popen(
                self.command(ends, disks),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                pass_fds=tuple(ends.values()),
            )
            stack.callback(_end, process)
            for pair in pairs.values():
                pair[1].close()
            log = stack.enter_context(open(files / "console.log", "wb", buffering=0))
            session = _Session(pairs["console"][0], pairs["control"][0], files, on_mark, start)
            status = session.serve(pairs["qmp"][0], start + timeout_s, log.write)
            seconds = time.monotonic() - start
            _end(process)
            said.seek(0)
            for stage, disk in zip(STAGES, disks, strict=True):
                _unpack(disk, files / stage)
            console = (files / "console.log").read_text(errors="replace")
            marks, lines = tuple(session.marks), tuple(session.console_lines)
            return Result(status, seconds, console, marks, files, said.read(), lines)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()


def _unpack(disk: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    with open(disk, "rb") as image:
        if not image.read(512).strip(b"\0"):
            return  # nothing was copied out
        image.seek(0)
        with tarfile.open(fileobj=image, mode="r:") as tar:
            tar.extractall(target, filter="data")


@dataclass
class _Session:
    """The conversation with a running guest."""

    console: socket.socket
    control: socket.socket
    files: Path
    on_mark: Callable[[str, Qmp], object] | None
    start: float
    marks: list[Mark] = field(default_factory=list)
    console_lines: list[Mark] = field(default_factory=list)
    status: int | None = None

    def serve(self, channel: socket.socket, deadline: float, log: Callable[[bytes], object]) -> int:
        """Answer the guest until it has said `exit`, QEMU has ended, or the time is over."""
        try:
            qmp = Qmp(channel)
        except OSError:
            return NO_STATUS
        pending = line_begun = b""
        with selectors.DefaultSelector() as selector:
            for connection in (self.console, self.control):
                selector.register(connection, selectors.EVENT_READ)
            while self.status is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    return TIMED_OUT
                for key, _ in selector.select(left):
                    try:
                        received = os.read(key.fd, 1 << 16)
                    except ConnectionResetError:
                        received = b""
                    if not received:
                        return NO_STATUS if self.status is None else self.status
                    if key.fd == self.console.fileno():
                        log(received)
                        *lines, line_begun = (line_begun + received).split(b"\n")
                        said = (line.decode(errors="replace").strip() for line in lines)
                        self.console_lines += map(self.now, said)
                        continue
                    *lines, pending = (pending + received).split(b"\n")
                    for line in lines:
                        reply = self.answer(line.decode(errors="replace").strip(), qmp)
                        self.control.sendall(reply.encode() + b"\n")
        return self.status

    def now(self, text: str) -> Mark:
        """A text that has just come."""
        return Mark(round(time.monotonic() - self.start, 3), text)

    def answer(self, line: str, qmp: Qmp) -> str:
        """The reply to one request of the guest: `ok`, or what is wrong with it."""
        verb, _, rest = TERMINAL_CONTROL.sub("", line).partition(" ")
        if verb == "exit" and rest.isdigit():
            self.status = int(rest)
        elif verb == "mark":
            self.marks.append(self.now(rest))
            if self.on_mark:
                self.on_mark(rest, qmp)
        elif verb == "qmp":
            command, _, arguments = rest.partition(" ")
            try:
                qmp(command, json.loads(arguments.replace("FILES/", f"{self.files}/") or "{}"))
            except (RuntimeError, ValueError) as error:
                return str(error)
        else:
            return f"what is {line!r}?"
        return "ok"
