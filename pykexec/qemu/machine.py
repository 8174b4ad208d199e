"""One QEMU process from start to end, which leaves nothing behind: no process, no file.

console  that of both kernels, of which the end is kept
line     JSON objects from the guest, one per line
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Any

from pykexec.errors import NotSupported
from pykexec.qemu.board import ONE_THREAD, PC, Board

CONSOLE_KEPT = 16 << 10
STUB_PREFIX = "pykexec: "


class NoQemu(NotSupported):
    """QEMU for the architecture of the guest is not installed."""

    code = "no-qemu"


@dataclass(frozen=True)
class Computer:
    """What QEMU starts: a machine, the file of a kernel, an initramfs, command line words, and
    memory in bytes."""

    board: Board
    kernel: str
    initramfs: bytes
    append: str
    memory: int
    cpus: int

    def command(self, initramfs: str, channels: dict[str, int]) -> list[str]:
        """QEMU's command line; a channel is a connected socket that it inherits."""
        # -no-reboot: a guest that resets itself ends QEMU. A kexec is not a reset.
        words = [qemu(self.board), "-nodefaults", "-no-user-config", "-display", "none"]
        words += ["-no-reboot", "-accel", ONE_THREAD, *self.board.words, "-smp", str(self.cpus)]
        words += ["-m", f"{self.memory}B", "-kernel", self.kernel, "-initrd", initramfs]
        words += ["-append", f"{self.board.append} {self.append}".strip()]
        for name, fd in channels.items():
            words += ["-chardev", f"socket,id={name},fd={fd}"]
        return [*words, "-serial", "chardev:console", *self.board.line]


def qemu(board: Board) -> str:
    """Its path. Raises NoQemu."""
    found = shutil.which(board.program)
    if found is None:
        raise NoQemu(
            f"{board.program} is not on PATH",
            hint=f"install it (package {board.package})"
            + (", or use --engine simulated" if board is PC else ""),
        )
    return found


@contextmanager
def running(computer: Computer) -> Iterator[GuestSession]:
    """The process, which is killed at the end in any case, and also if this program dies, if
    setpriv(1) is available."""
    with ExitStack() as stack:
        initramfs = stack.enter_context(os.fdopen(os.memfd_create("initramfs"), "wb"))
        initramfs.write(computer.initramfs)
        initramfs.flush()
        pairs = {name: socket.socketpair() for name in ("console", "line")}
        for end in (end for pair in pairs.values() for end in pair):
            stack.enter_context(end)
        channels = {name: theirs.fileno() for name, (_, theirs) in pairs.items()}
        command = computer.command(f"/proc/self/fd/{initramfs.fileno()}", channels)
        if setpriv := shutil.which("setpriv"):
            command = [setpriv, "--pdeathsig", "KILL", *command]
        output = stack.enter_context(tempfile.TemporaryFile())
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(initramfs.fileno(), *channels.values()),
            start_new_session=True,  # only this program handles an interrupt from the terminal
        )
        stack.callback(_end_process, process)
        for _, theirs in pairs.values():
            theirs.close()
        yield GuestSession(pairs["console"][0], pairs["line"][0], output)


def _end_process(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


@dataclass
class GuestSession:
    """The messages of a running machine."""

    console: socket.socket
    line: socket.socket
    output: IO[bytes]
    """QEMU's own output."""
    shown: bytes = b""
    """The end of the console."""
    timed_out: bool = False

    def messages(self, limit: float) -> Iterator[dict[str, Any]]:
        """The guest's objects, until QEMU ends or `limit` seconds are over."""
        deadline = time.monotonic() + limit
        pending = b""
        with selectors.DefaultSelector() as selector:
            for channel in (self.console, self.line):
                selector.register(channel, selectors.EVENT_READ)
            while selector.get_map():
                left = deadline - time.monotonic()
                ready = selector.select(left) if left > 0 else ()
                if not ready:  # the limit also applies to a guest that never stops sending
                    self.timed_out = True
                    return
                for key, _ in ready:
                    received = _receive(key.fd)
                    if not received:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is self.console:
                        self.shown = (self.shown + received)[-CONSOLE_KEPT:]
                    else:
                        *lines, pending = (pending + received).split(b"\n")
                        yield from map(_parsed, lines)

    @property
    def last_lines(self) -> list[str]:
        """The console after the stub's last message, if there is one; QEMU's output if the console
        is empty."""
        self.output.seek(0)
        text = (self.shown or self.output.read()).decode(errors="replace")
        return [
            line.strip() for line in text.rpartition(STUB_PREFIX)[2].splitlines() if line.strip()
        ]

    @property
    def last_words(self) -> str:
        """The panic message of that kernel, or its last line."""
        panics = [line for line in self.last_lines if "Kernel panic" in line]
        return (panics or self.last_lines or ["nothing"])[-1]


def _receive(fd: int) -> bytes:
    """The available data; empty if QEMU has ended."""
    try:
        return os.read(fd, 1 << 16)
    except ConnectionResetError:
        return b""


def _parsed(line: bytes) -> dict[str, Any]:
    """The object in a line; empty if the line is something else."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
