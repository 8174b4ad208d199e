"""A guest's physical memory from outside, written with QEMU's GDB stub, like a hardware fault: the
guest's page tables are not involved."""

from __future__ import annotations

import re
import socket
import tempfile
from pathlib import Path

from .machine import Qmp


def write_physical(qmp: Qmp, addr: int, contents: bytes) -> None:
    """Write bytes; the machine is stopped meanwhile. Raises RuntimeError."""
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
        qmp("cont")  # detaching is not enough


def flip_bit(qmp: Qmp, addr: int) -> None:
    """Change one bit of the byte at a physical address."""
    output = monitor(qmp, f"xp /1xb {addr:#x}")
    (byte,) = re.findall(r": 0x([0-9a-f]{2})", output)
    write_physical(qmp, addr, bytes((int(byte, 16) ^ 0x10,)))


def monitor(qmp: Qmp, line: str) -> str:
    return str(qmp("human-monitor-command", {"command-line": line}))


def expect_ok(connection: socket.socket, packet: str) -> None:
    """Send one packet of the remote protocol, and check the answer; a stop reply (T...) may come
    first."""
    connection.sendall(f"${packet}#{sum(packet.encode()) % 256:02x}".encode())
    output = b""
    while not (answers := re.findall(rb"\$([^T#][^#]*)#..", output)):
        received = connection.recv(4096)
        if not received:
            raise RuntimeError(f"{packet}: QEMU hung up")
        connection.sendall(b"+")
        output += received
    if answers != [b"OK"]:
        raise RuntimeError(f"{packet}: {answers[0].decode(errors='replace')}")
