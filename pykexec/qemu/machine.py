"""One QEMU process from start to end, which leaves nothing behind: no process, no file.

ttyS0   the console of both kernels, of which the end is kept
ttyS1   JSON objects from the guest, one a line
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
# Two faults of QEMU 7.2 (Debian 12), seen as kernels that die in early boot at random places.
# CMPXCHG16B leaves wrong flags behind, TF among them: 6.12 died in 2 of 10 boots, and in none of 60
# without the instruction. A kernel that rewrites its code while another virtual CPU runs it in
# a thread of its own gets a stray int3 (1 of 15 boots of 6.12 with two CPUs).
NO_CMPXCHG16B = ",-cx16"
ONE_THREAD = "tcg,thread=single"
# With one thread the second CPU measures its delay loop while the first stands still: 2 BogoMIPS
# instead of 5000. A panic there with panic=3 rebooted after 5 ms, and waits no longer for the other
# CPU to take its NMI.
DELAY_LOOP = "lpj=10000000"  # right for 2.5 GHz and HZ=250, and near enough for others
CPU = "qemu64,+pdpe1gb" + NO_CMPXCHG16B
"""With pages of 1 GiB, as real ones have them: a reservation holds the page tables."""
CONSOLE_KEPT = 16 << 10
STUB_SAYS = "pykexec: "


class NoQemu(NotSupported):
    """There is no QEMU for x86_64 here."""

    code = "no-qemu"


@dataclass(frozen=True)
class Computer:
    """What QEMU starts: a kernel by its file, an initramfs, words, and memory in bytes."""

    kernel: str
    initramfs: bytes
    append: str
    memory: int
    cpus: int

    def command(self, initramfs: str, channels: dict[str, int]) -> list[str]:
        """QEMU's command line; a channel is a connected socket that it inherits."""
        # -no-reboot: a guest that resets itself ends QEMU. A kexec is no reset.
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
            hint="install it (package qemu-system-x86), or --engine simulated",
        )
    return found


@contextmanager
def running(computer: Computer) -> Iterator[GuestSession]:
    """The process, killed at the end, however that comes; and with this program, where there
    is setpriv(1) to say so."""
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
        said = stack.enter_context(tempfile.TemporaryFile())
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            pass_fds=(initramfs.fileno(), *channels.values()),
            start_new_session=True,  # an interrupt from the terminal is ours to answer
        )
        stack.callback(_end_process, process)
        for _, theirs in pairs.values():
            theirs.close()
        yield GuestSession(pairs["console"][0], pairs["line"][0], said)


def _end_process(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


@dataclass
class GuestSession:
    """What a running machine says."""

    console: socket.socket
    line: socket.socket
    said: IO[bytes]
    """QEMU's own words."""
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
                if not ready:  # a guest that never stops talking has to stop, too
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
        """What is on the console behind the stub's last word, if it came to that; where nothing
        ever was, what QEMU said."""
        self.said.seek(0)
        text = (self.shown or self.said.read()).decode(errors="replace")
        return [line.strip() for line in text.rpartition(STUB_SAYS)[2].splitlines() if line.strip()]

    @property
    def last_words(self) -> str:
        """The panic of that kernel, or else its last line."""
        panics = [line for line in self.last_lines if "Kernel panic" in line]
        return (panics or self.last_lines or ["nothing"])[-1]


def _receive(fd: int) -> bytes:
    """What is there; nothing when QEMU has ended."""
    try:
        return os.read(fd, 1 << 16)
    except ConnectionResetError:
        return b""


def _parsed(line: bytes) -> dict[str, Any]:
    """One object; none in a line that is something else."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
