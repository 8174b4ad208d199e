"""In the guest: processes that map huge pages whenever there are any, as any user may, while a
crash by normal is loaded and replaced. Prints a JSON document with the results."""

from __future__ import annotations

import json
import mmap
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from pykexec.abi.hugetlb import HUGE_PAGE_SIZE
from pykexec.backends.backend import Slot
from pykexec.backends.kernel.backend import KernelBackend
from pykexec.backends.kernel.calls import ThisKernel
from pykexec.errors import KexecError
from pykexec.flows.load import load
from pykexec.placement.request import Mode

from .stage_life import KERNEL, memory, request

MAP_HUGETLB = 0x40000
NOBODY = 65534
ROUNDS = 6
HELD_MAX = 200
"""Limit of pages for one process: it should interfere, but not use up memory."""


def steal(pages: int, touch: bool) -> None:
    """Take pages up to HELD_MAX, and hold them."""
    Path("/proc/self/comm").write_text("thief")
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    held: list[mmap.mmap] = []
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_HUGETLB
    while len(held) * pages < HELD_MAX:
        try:
            held.append(mmap.mmap(-1, pages * HUGE_PAGE_SIZE, flags))
        except OSError:
            continue
        if touch:
            held[-1][0] = 1
    signal.pause()


def thieves(*wants: tuple[int, bool]) -> list[int]:
    """Start the processes."""
    found = []
    for pages, touch in wants:
        pid = os.fork()
        if not pid:
            try:
                steal(pages, touch)
            finally:
                os._exit(1)
        found.append(pid)
    time.sleep(1)
    assert not any(os.waitpid(pid, os.WNOHANG)[0] for pid in found), "they are at work"
    return found


def stop(pids: list[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def loaded(backend: KernelBackend, mode: Mode, size: int, replaces: bool) -> dict[str, Any]:
    wanted = replace(request(mode, size), replaces=replaces)
    started = time.monotonic()
    try:
        done = load(KERNEL, backend, wanted)
        with backend.session():
            assert backend.check() is not None
    except KexecError as error:
        return {"code": error.code, "message": error.message, "hint": error.hint}
    gap = done.granted.replaced and done.granted.replaced.gap
    return {"code": "done", "gap": gap, "seconds": time.monotonic() - started}


def against(backend: KernelBackend, *wants: tuple[int, bool]) -> dict[str, Any]:
    """Loads with alternating modes that replace each other, and what is left at the end."""
    before, pids = memory(), thieves(*wants)
    try:
        done = [
            loaded(backend, (Mode.STUB_SWAP, Mode.IN_PLACE)[turn % 2], 64 << 20, replaces=turn > 0)
            for turn in range(ROUNDS)
        ]
        during = memory()
        with backend.session():
            backend.unload(Slot.CRASH)
    finally:
        stop(pids)
    after = memory()
    stolen = during["total"] - before["total"] - 34
    return {"loads": done, "stolen": stolen, "total": after["total"], "pool": after["pool"]}


def main() -> None:
    backend = KernelBackend(ThisKernel())
    overcommit = backend.bay.pages.overcommit()
    found = {
        "nobody": against(backend),
        "one": against(backend, (1, False)),
        "two": against(backend, (1, False), (4, True)),
        "too little": {},
        "overcommit": backend.bay.pages.overcommit() - overcommit,
    }
    pages = backend.bay.pages
    pages.set_pool(40)
    pids = thieves((1, True), (1, False))
    found["too little"] = loaded(backend, Mode.STUB_SWAP, 2600 << 20, replaces=False)
    stop(pids)
    pages.set_pool(0)
    found["left"] = memory()
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
