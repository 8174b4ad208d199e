"""Writes into a guest's physical memory from outside, by QEMU's GDB stub, as a fault in the
hardware would: no page table of the guest is in the way."""

from __future__ import annotations

import re
import socket
import tempfile
from pathlib import Path

from .machine import Qmp


def write_physical(qmp: Qmp, addr: int, contents: bytes) -> None:
    """The machine stands still for the time that it takes. Raises RuntimeError."""
    with tempfile.TemporaryDirectory(prefix="pykexec-gdb-") as folder:
        path = Path(folder, "socket")
        monitor(qmp, f"gdbserver unix:{path},server=on,wait=off")
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(str(path))
            for packet in (
                "Qqemu.PhyMemMode:1",
                f"M{addr:x},{len(contents):x}:{contents.hex()}",
                "D",
            ):
                expect_ok(connection, packet)
        monitor(qmp, "gdbserver none")
        qmp("cont")  # to detach is not enough


def monitor(qmp: Qmp, line: str) -> None:
    qmp("human-monitor-command", {"command-line": line})


def expect_ok(connection: socket.socket, packet: str) -> None:
    """One packet of the remote protocol, and its answer; that the machine has stopped
    (T...) is told in between."""
    connection.sendall(f"${packet}#{sum(packet.encode()) % 256:02x}".encode())
    said = b""
    while not (answers := re.findall(rb"\$([^T#][^#]*)#..", said)):
        received = connection.recv(4096)
        if not received:
            raise RuntimeError(f"{packet}: QEMU hung up")
        connection.sendall(b"+")
        said += received
    if answers != [b"OK"]:
        raise RuntimeError(f"{packet}: {answers[0].decode(errors='replace')}")
