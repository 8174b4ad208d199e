"""One QEMU process from start to end, which leaves nothing behind: no process, no file.

ttyS0   the console of both kernels, of which the end is kept ttyS1   JSON objects from the guest,
one per line
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

PROGRAM = "qemu-system-x86_64"
# Two bugs of QEMU 7.2 (Debian 12), which make kernels crash in early boot at random places.
# CMPXCHG16B leaves wrong flags, including TF: 6.12 crashed in 2 of 10 boots, and in none of 60
# without the instruction. A kernel that rewrites its code while another virtual CPU runs it in a
# separate thread gets a stray int3 (1 of 15 boots of 6.12 with two CPUs).
NO_CMPXCHG16B = ",-cx16"
ONE_THREAD = "tcg,thread=single"
# With one thread the second CPU measures its delay loop while the first is stopped: 2 BogoMIPS
# instead of 5000. A panic there with panic=3 rebooted after 5 ms, and does not wait long enough for
# the other CPU to take its NMI.
DELAY_LOOP = "lpj=10000000"  # correct for 2.5 GHz and HZ=250, and close enough for others
CPU = "qemu64,+pdpe1gb" + NO_CMPXCHG16B
"""With pages of 1 GiB, like real CPUs: a reservation contains the page tables."""
CONSOLE_KEPT = 16 << 10
STUB_PREFIX = "pykexec: "


class NoQemu(NotSupported):
    """QEMU for x86_64 is not installed."""

    code = "no-qemu"


@dataclass(frozen=True)
class Computer:
    """What QEMU starts: the file of a kernel, an initramfs, command line words, and memory in
    bytes."""

    kernel: str
    initramfs: bytes
    append: str
    memory: int
    cpus: int

    def command(self, initramfs: str, channels: dict[str, int]) -> list[str]:
        """QEMU's command line; a channel is a connected socket that it inherits."""
        # -no-reboot: a guest that resets itself ends QEMU. A kexec is not a reset.
        words = [qemu(), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
        words += ["-accel", ONE_THREAD, "-cpu", CPU, "-smp", str(self.cpus)]
        words += ["-m", f"{self.memory}B", "-kernel", self.kernel, "-initrd", initramfs]
        words += ["-append", f"{DELAY_LOOP} {self.append}"]
        for name, fd in channels.items():
            words += ["-chardev", f"socket,id={name},fd={fd}", "-serial", f"chardev:{name}"]
        return words


def qemu() -> str:
    """Its path. Raises NoQemu."""
    found = shutil.which(PROGRAM)
    if found is None:
        raise NoQemu(
            f"{PROGRAM} is not on PATH",
            hint="install it (package qemu-system-x86), or use --engine simulated",
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
