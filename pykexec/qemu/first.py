"""Process 1 of the first kernel: uses memory, runs `pykexec load`, writes the pattern, and
panics."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from pykexec import libc
from pykexec.backends.kernel.calls import ThisKernel
from pykexec.crash.pattern import PATTERN_SIZE, pattern_page
from pykexec.errors import DoesNotFit, KexecError
from pykexec.host.hugepages import page_frames
from pykexec.host.memory import meminfo
from pykexec.host.root import THIS_MACHINE
from pykexec.memory.ranges import PhysRange, RangeSet
from pykexec.qemu.guest import INITRD, KERNEL, WISHES, Send, line_to_host

LEFT = 64 << 20
"""Bytes that `pykexec load` itself needs."""
CHUNK = 2 << 20
WARNING = "pykexec: warning: "


class TooMuchInUse(DoesNotFit):
    """The machine of a rehearsal does not have enough memory for the requested use."""

    code = "too-much-in-use"


def main() -> None:
    with line_to_host() as send:
        wishes = json.loads(Path(WISHES).read_text())
        send(step="first kernel: memory in use")
        memory = in_use(wishes["fill"])
        send(step="first kernel: pykexec load")
        plan = load(wishes["load"], send)
        if plan is not None:
            send(step="first kernel: filling memory")
            filled = fill(memory, lent_of(plan))
            cpus = os.cpu_count() or 1
            send(step="panic, and the capture kernel", filled=filled, cpus=cpus)
            os.sched_setaffinity(0, {cpus - 1})
            ThisKernel().panic()
    time.sleep(3600)  # the host ends this machine


def in_use(size: int) -> mmap.mmap:
    """Small pages of a process, all allocated, without contents yet. Raises TooMuchInUse."""
    values = meminfo(THIS_MACHINE)
    available = values.get("MemAvailable", 0) if isinstance(values, dict) else 0
    if size + LEFT > available:
        raise TooMuchInUse(
            f"{size >> 20} MiB were to be filled, but the first kernel has only "
            f"{available >> 20} MiB left",
            hint="use a larger --memory, or a smaller --used",
        )
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel without transparent huge pages
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    for at in range(0, size, CHUNK):
        memory[at : at + CHUNK] = b"\1" * min(CHUNK, size - at)
    return memory


def load(options: list[str], send: Send) -> dict[str, Any] | None:
    """Load as a user would. Sends the plan, or the error, and returns the plan."""
    words = [KERNEL, "--initrd", INITRD, *options, "--backend", "kernel", "--json"]
    command = [sys.executable, "-m", "pykexec", "load", "--crash-by-normal", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if not done.stdout:
        raise KexecError(f"pykexec load: {done.stderr.strip().rpartition(chr(10))[2]}")
    document: dict[str, Any] = json.loads(done.stdout)
    if done.returncode:
        send(refused=document["error"], status=done.returncode)
        return None
    lines = done.stderr.splitlines()
    send(
        plan=document,
        warnings=[line.removeprefix(WARNING) for line in lines if line.startswith(WARNING)],
    )
    return document


def lent_of(plan: dict[str, Any]) -> RangeSet:
    """Memory whose contents the dump does not have."""
    return RangeSet.of(
        PhysRange(int(span["start"], 16), int(span["end"], 16)) for span in plan.get("lent") or ()
    )


def fill(memory: mmap.mmap, lent: RangeSet) -> int:
    """Fill whole pages with self-describing ones until none has moved meanwhile; returns the number
    of those outside of the lent memory."""
    count = len(memory) // mmap.PAGESIZE
    addr = libc.address_of(memory)
    written = [-1] * count
    while (frames := page_frames(addr, count)) != written:
        for index, frame in enumerate(frames):
            if frame != written[index]:
                at = index * mmap.PAGESIZE
                memory[at : at + mmap.PAGESIZE] = _filled(frame)
        written = frames
    here = sum(frame not in lent for frame in written)
    return here * mmap.PAGESIZE // PATTERN_SIZE


def _filled(frame: int) -> bytes:
    """The contents of a page of this kernel at a physical address."""
    return b"".join(pattern_page(at) for at in range(frame, frame + mmap.PAGESIZE, PATTERN_SIZE))
