"""Work that goes on at a panic in mode lent.

python3 -m guest.lent_load churn DISK        processes, files, page cache and loopback TCP
python3 -m guest.lent_load reads DISK PLAN lent|loaded
                                             O_DIRECT reads into pages of the window, those that
                                             are lent or the others: as many as are in flight at
                                             once on a slow disk
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from ctypes import addressof, c_char
from pathlib import Path

from .background import in_background
from .pattern import PAGE, physical

READS = {"lent": (24, 256), "loaded": (240, 16)}
"""How many reads are in flight at once, and their pages: six seconds of a disk with 4 MiB/s, or
many small ones of which some end in each tenth of a second."""
BUFFERS = 220 << 20


def churn(disk: str) -> None:
    """Until the panic. The load itself comes first where there are not enough processors."""
    for work in (anonymous, forks, lambda: buffered(disk), lambda: direct(disk), files, loopback):
        if os.fork() == 0:
            os.nice(19)
            while True:
                work()


def anonymous() -> None:
    memory = mmap.mmap(-1, 64 << 20)
    for at in range(0, len(memory), PAGE):
        memory[at : at + 8] = b"USERPAGE"
    memory.close()


def forks() -> None:
    pids = []
    for _ in range(8):
        pid = os.fork()
        if not pid:
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)


def buffered(disk: str) -> None:
    with open(disk, "r+b", buffering=0) as file:
        while read := file.read(1 << 20):
            file.seek(-len(read), os.SEEK_CUR)
            file.write(read)
        os.fsync(file.fileno())


def direct(disk: str) -> None:
    """Reads that go past the page cache, into user memory."""
    memory = mmap.mmap(-1, 4 << 20)
    fd = os.open(disk, os.O_RDONLY | os.O_DIRECT)
    while os.readv(fd, [memory]):
        pass
    os.close(fd)
    memory.close()


def files() -> None:
    for number in range(200):
        path = Path(f"/tmp/churn{number}")
        path.write_bytes(os.urandom(7000))
        if number % 2:
            path.unlink()


def loopback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    for _ in range(200):
        one.sendall(bytes(16_000))
        left = 16_000
        while left:
            left -= len(other.recv(left))
    one.close()
    other.close()


def window_pages(memory: mmap.mmap, plan: str, kind: str) -> list[int]:
    """Offsets of pages that lie in the lent memory of the window, or in its other memory."""
    document = json.loads(Path(plan).read_text())
    window, *lent = (
        range(int(span["start"], 16), int(span["end"], 16))
        for span in (document["window"], *document["lent"])
    )
    address = addressof(c_char.from_buffer(memory))
    frames = physical("self", address, len(memory) // PAGE)
    return [
        number * PAGE
        for number, frame in enumerate(frames)
        if frame in window and any(frame in span for span in lent) == (kind == "lent")
    ]


def reads(disk: str, plan: str, kind: str) -> None:
    memory = mmap.mmap(-1, BUFFERS, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    for at in range(0, len(memory), PAGE):
        memory[at] = 1
    found = window_pages(memory, plan, kind)
    readers, each = READS[kind]
    step = max(1, len(found) // (readers * each))
    chosen = found[::step][: readers * each]
    view = memoryview(memory)

    for reader in range(readers):
        offsets = chosen[reader * each : (reader + 1) * each]
        buffers = [view[at : at + PAGE] for at in offsets]
        threading.Thread(target=read_for_ever, args=(disk, buffers), daemon=True).start()
    Path("/out/reads").write_text(str(len(chosen)))
    time.sleep(3)
    Path("/tmp/reads-ready").touch()
    time.sleep(10_000)


def read_for_ever(disk: str, buffers: list[memoryview]) -> None:
    fd = os.open(disk, os.O_RDONLY | os.O_DIRECT)
    size = sum(len(buffer) for buffer in buffers)
    at = 0
    while buffers:
        if os.preadv(fd, buffers, at) < size:
            at = 0
        else:
            at += size


def main(verb: str, *words: str) -> None:
    if verb == "churn":

        def work(say_ready: Callable[[], object]) -> None:
            churn(words[0])
            time.sleep(2)
            say_ready()
            time.sleep(10_000)

        in_background(work, "the load could not be started")
    else:
        reads(*words)


if __name__ == "__main__":
    main(*sys.argv[1:])
