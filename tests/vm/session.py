"""The conversation with a running guest: its console, its requests, QEMU's control protocol."""

from __future__ import annotations

import json
import os
import re
import selectors
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

TIMED_OUT = 124
NO_STATUS = 125  # QEMU ended, or the guest reset itself, before a payload had finished
TERMINAL_CONTROL = re.compile(r"\x1b\[[0-9;=?]*[A-Za-z]")
"""EFI firmware clears the screen on every serial line, before the guest's first request."""
FIRST_PROCESS = "Run /init as init process"
"""The kernel's last message (init/main.c: run_init_process) before code of the lab runs."""


@dataclass(frozen=True)
class Mark:
    """A text that the guest sent, and its time in seconds after the start of QEMU."""

    seconds: float
    text: str


class Qmp:
    """QEMU's control protocol, and the keyboard of the console."""

    def __init__(self, connection: socket.socket, console: socket.socket | None = None) -> None:
        self.console = console
        connection.settimeout(120)
        self._file = connection.makefile("rw")
        self._line()  # greeting
        self("qmp_capabilities")

    def __call__(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """The answer to a command. Raises RuntimeError with QEMU's message if it fails."""
        self._file.write(json.dumps({"execute": command, "arguments": arguments or {}}) + "\n")
        self._file.flush()
        while True:
            answer = self._line()
            if "error" in answer:
                raise RuntimeError(f"{command}: {answer['error'].get('desc')}")
            if "return" in answer:
                return answer["return"]

    def type(self, text: str) -> None:
        """Type into the console, unless QEMU has ended."""
        if self.console:
            with suppress(OSError):
                self.console.sendall(text.encode())

    def nmi(self) -> None:
        """A non-maskable interrupt to every CPU."""
        self("inject-nmi")

    def _line(self) -> dict[str, Any]:
        line = self._file.readline()
        if not line:
            raise ConnectionError("QEMU has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


@dataclass
class Session:
    """Handles the requests of a guest. Times are those of the monotonic clock."""

    console: socket.socket
    control: socket.socket
    log: BinaryIO
    files: Path
    on_mark: Callable[[str, Qmp], object] | None
    start: float
    on_console: Callable[[str, Qmp], object] | None = None
    marks: list[Mark] = field(default_factory=list)
    console_lines: list[Mark] = field(default_factory=list)
    booted: bool = False
    """Whether the first kernel reached its first process."""
    status: int | None = None
    line_begun: bytes = b""
    request_begun: bytes = b""

    def serve(self, channel: socket.socket, boot_deadline: float, deadline: float) -> int:
        """Answer the guest until it sends `exit`, QEMU ends, or the time is over."""
        try:
            qmp = Qmp(channel, self.console)
        except OSError:
            return NO_STATUS
        with selectors.DefaultSelector() as selector:
            for connection in (self.console, self.control):
                selector.register(connection, selectors.EVENT_READ)
            while self.status is None and selector.get_map():
                left = (
                    deadline if self.booted else min(deadline, boot_deadline)
                ) - time.monotonic()
                if left <= 0:
                    return TIMED_OUT
                for key, _ in selector.select(left):
                    received = receive(key.fd)
                    if not received:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is self.console:
                        shown = len(self.console_lines)
                        self.show(received)
                        for line in self.console_lines[shown:]:
                            if self.on_console:
                                self.on_console(line.text, qmp)
                    else:
                        self.hear(received, qmp)
        return NO_STATUS if self.status is None else self.status

    def show_the_rest(self) -> None:
        """Show what QEMU had written to the console before it ended."""
        while received := receive(self.console.fileno()):
            self.show(received)

    def show(self, received: bytes) -> None:
        """Show a part of the console."""
        self.log.write(received)
        *lines, self.line_begun = (self.line_begun + received).split(b"\n")
        for line in lines:
            self.console_lines.append(self.now(line.decode(errors="replace").strip()))
            self.booted = self.booted or FIRST_PROCESS in self.console_lines[-1].text

    def hear(self, received: bytes, qmp: Qmp) -> None:
        """Read requests of the guest, and answer them."""
        *lines, self.request_begun = (self.request_begun + received).split(b"\n")
        for line in lines:
            reply = self.answer(line.decode(errors="replace").strip(), qmp)
            with suppress(OSError):  # QEMU has ended: the next read will show that
                self.control.sendall(reply.encode() + b"\n")

    def now(self, text: str) -> Mark:
        """A mark with the present time."""
        return Mark(round(time.monotonic() - self.start, 3), text)

    def answer(self, line: str, qmp: Qmp) -> str:
        """The reply to a request of the guest: `ok`, or what is wrong with it."""
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
            except (RuntimeError, ValueError, OSError) as error:
                return str(error)
        else:
            return f"what is {line!r}?"
        return "ok"


def receive(fd: int) -> bytes:
    """The data that is available; empty if QEMU has ended."""
    try:
        return os.read(fd, 1 << 16)
    except ConnectionResetError:
        return b""
