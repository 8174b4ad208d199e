"""In the guest: mode lent where a block cannot be made movable, or changes after the load, where
the load is killed while it changes blocks, and where a balloon driver is active. Prints a JSON
document.

    python3 -m guest.lent_life BALLOON    BALLOON is the module of virtio_balloon
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .pattern import PAGE, physical
from .region_verbs import KERNEL, PYKEXEC, run

MEMORY = Path("/sys/devices/system/memory")
INITRD = Path("/tmp/initrd")
LOAD = ("load", "/boot/vmlinuz", "--initrd", str(INITRD), "--no-initrd-check", "--crash-by-normal")
JOURNAL = Path("/run/pykexec/blocks.json")
POOL = Path("/proc/sys/vm/nr_hugepages")
CHUNK = 4 << 20


def load(*words: str) -> dict[str, Any]:
    """Exit status, mode, window (first and last block), and what is missing for other modes or for
    this one."""
    began = time.monotonic()
    done = run(*LOAD, *words)
    document = done["document"]
    return {
        "status": done["status"],
        "seconds": time.monotonic() - began,
        "mode": document.get("mode"),
        "blocks": blocks_of(document["window"]) if document.get("window") else None,
        "lacking": {item["mode"]: item["why"] for item in document.get("lacking") or ()},
        "error": document.get("error"),
    }


def block_size() -> int:
    return int((MEMORY / "block_size_bytes").read_text(), 16)


def blocks_of(span: dict[str, str]) -> list[int]:
    """Numbers of the blocks that a range touches."""
    size = block_size()
    first, end = int(span["start"], 16), int(span["end"], 16)
    return list(range(first // size, (end - 1) // size + 1))


def zones() -> dict[str, str]:
    """State and zones of every block."""
    return {
        path.name: f"{(path / 'state').read_text().strip()} {(path / 'valid_zones').read_text()}"
        for path in sorted(MEMORY.glob("memory[0-9]*"))
    }


def unload() -> int:
    return int(run("unload", "--crash")["status"])


def a_block_taken_offline() -> dict[str, Any]:
    """After the load, by another program, which brings it back later."""
    before, loaded = zones(), load("--mode", "lent")
    state = MEMORY / f"memory{loaded['blocks'][-1]}" / "state"
    good = run("status")["status"]
    state.write_text("offline")
    offline = run("status")
    state.write_text("online_kernel")
    elsewhere = run("status")
    return {
        "loaded": loaded,
        "good": good,
        "offline": [offline["status"], offline["document"]["staged"]["problem"]],
        "in another zone": [elsewhere["status"], elsewhere["document"]["staged"]["problem"]],
        "unload": unload(),
        "same": zones() == before,
    }


def a_pinned_page() -> dict[str, Any]:
    """A page in the blocks that a load would use is in a pipe, and cannot be moved."""
    blocks = load("--mode", "lent")["blocks"]
    unload()
    memory, address = memory_in(blocks)
    end = pin(address)
    before, loaded = zones(), load("--mode", "lent")
    changed = sorted(int(name[6:]) for name, now in zones().items() if before[name] != now)
    found = {"loaded": loaded, "pinned": blocks, "changed": changed, "unload": unload()}
    os.close(end)
    memory.close()
    return found | {"same": zones() == before}


def memory_in(blocks: list[int]) -> tuple[mmap.mmap, int]:
    """Memory of this process, and the address of a page of it in one of the blocks."""
    others, size = [], block_size()
    while True:
        memory = mmap.mmap(-1, CHUNK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        for at in range(0, CHUNK, PAGE):
            memory[at] = 1
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for number, frame in enumerate(physical("self", address, CHUNK // PAGE)):
            if frame // size in blocks:
                return memory, address + number * PAGE
        others.append(memory)


class IoVec(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


def pin(address: int) -> int:
    """The page there is pinned as long as this end of a pipe is open (vmsplice(2))."""
    reader, writer = os.pipe()
    vector = IoVec(address, PAGE)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.vmsplice(writer, ctypes.byref(vector), ctypes.c_size_t(1), 0) != PAGE:
        raise OSError(ctypes.get_errno(), "vmsplice")
    os.close(writer)
    return reader


def killed() -> list[dict[str, Any]]:
    """Loads that get SIGKILL as soon as a block is in the journal, offline, or movable. The next
    unload finds nothing loaded, and restores what is left."""
    before, pool, found = zones(), POOL.read_text(), []
    moments: dict[str, Callable[[], bool]] = {
        "in the journal": JOURNAL.exists,
        "offline": lambda: any(now.startswith("offline") for now in zones().values()),
        "movable": lambda: any(now.startswith("online Movable") for now in zones().values()),
    }
    for moment, is_there in moments.items():
        process = subprocess.Popen(
            [*PYKEXEC, *LOAD, "--mode", "lent", *KERNEL], stdout=subprocess.DEVNULL
        )
        while process.poll() is None and not is_there():
            pass
        process.kill()
        status = process.wait()
        changed = sorted(int(name[6:]) for name, now in zones().items() if before[name] != now)
        journal = json.loads(JOURNAL.read_text())["blocks"] if JOURNAL.exists() else []
        unload()
        found.append(
            {
                "moment": moment,
                "killed": status == -signal.SIGKILL,
                "changed": changed,
                "journal": sorted(number for number, _ in journal),
                "same": (zones(), POOL.read_text(), JOURNAL.exists()) == (before, pool, False),
            }
        )
    return found


def a_balloon(module: str) -> dict[str, Any]:
    """First after a load."""
    before, armed = zones(), load("--mode", "lent")
    subprocess.run(["insmod", module], check=True)
    found = run("status")
    replaced = load("--keep", "kernel", "--replace")
    good = run("status")["status"]
    unload()
    return {
        "armed": armed,
        "later": [found["status"], found["document"]["staged"]["problem"]],
        "replaced": replaced,
        "good": good,
        "refused": load("--mode", "lent"),
        "same": zones() == before,
        "by itself": load("--keep", "kernel"),
        "unload": unload(),
    }


def main(balloon: str) -> None:
    INITRD.write_bytes(os.urandom(1 << 20))
    found = {
        "offline": a_block_taken_offline(),
        "pinned": a_pinned_page(),
        "killed": killed(),
        "balloon": a_balloon(balloon),
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main(*sys.argv[1:])
