"""User memory with self-describing pages: magic, physical address, filler, complement.

    python3 -m guest.pattern hold MIB FRAMES   lock memory, fill it, and stay in the background
    python3 -m guest.pattern settle FRAMES     stop further moves; fill and list those pages again
                                               that have moved since they were filled
    python3 -m guest.pattern moved FRAMES      print how many have moved; status 1 if any has

FRAMES is a file of the pages' physical addresses, as little-endian 64-bit numbers.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import signal
import struct
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path

from .background import in_background

PAGE = 4096
KERNEL_PAGE = mmap.PAGESIZE
MAGIC = b"PYKEXEC-PATTERN\n"
FILLER = b"crash by normal " * ((PAGE - len(MAGIC) - 16) // 16)
PFN_MASK = (1 << 55) - 1  # Documentation/admin-guide/mm/pagemap.rst
PRESENT = 1 << 63
SETTLE_SECONDS = 120
COMPACT_LOCKED = Path("/proc/sys/vm/compact_unevictable_allowed")
COUNTERS = Path("/proc/vmstat")
FOLD_COUNTERS = Path("/proc/sys/vm/stat_refresh")


def page(addr: int) -> bytes:
    """The contents of the pattern page at a physical address."""
    return MAGIC + struct.pack("<Q", addr) + FILLER + struct.pack("<Q", ~addr & (1 << 64) - 1)


def physical(pid: int | str, address: int, count: int) -> array[int]:
    """The physical addresses of `count` pages of a process, 0 for a page that is not present. The
    kernel's pages may be larger; the addresses start at one of those."""
    wanted = -(-count * PAGE // KERNEL_PAGE)
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
        pagemap.seek(address // KERNEL_PAGE * 8)
        entries = array("Q")
        while len(entries) < wanted:
            entries.frombytes(pagemap.read((wanted - len(entries)) * 8))
    frames = ((e & PFN_MASK) * KERNEL_PAGE for e in entries if e & PRESENT)
    parts = range(0, KERNEL_PAGE, PAGE)
    return array("Q", (frame and frame + part for frame in frames for part in parts))[:count]


class Pattern:
    """Locked memory of small pages, filled with the pattern."""

    def __init__(self, size: int) -> None:
        self.memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with contextlib.suppress(OSError):  # a kernel without transparent huge pages
            self.memory.madvise(mmap.MADV_NOHUGEPAGE)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self.count = size // PAGE
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mlock(ctypes.c_void_p(self.address), ctypes.c_size_t(size)):
            raise OSError(ctypes.get_errno(), f"mlock of {size >> 20} MiB")
        self.frames = array("Q", bytes(8 * self.count))
        self.fill()

    def fill(self) -> None:
        """Write the pages that are not in the frame that they were written for, until all are."""
        while (now := self.where()) != self.frames:
            for index, addr in enumerate(now):
                if self.frames[index] != addr:
                    self.memory[index * PAGE : (index + 1) * PAGE] = page(addr)
            self.frames = now

    def where(self) -> array[int]:
        """The physical address of each page. A page that is being moved is briefly not present:
        touching it waits for that."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while 0 in (now := physical("self", self.address, self.count)):
            if time.monotonic() > deadline:
                raise OSError("physical addresses cannot be read (it takes root)")
            self.memory[now.index(0) * PAGE]
        return now


def save(frames: array[int], path: Path) -> None:
    """Write the list of frames atomically."""
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_bytes(frames.tobytes())
    temporary.rename(path)


def holder_file(path: Path) -> Path:
    """The file with the PID of the process that holds the memory."""
    return path.with_name(f"{path.name}.holder")


def hold(mib: int, path: Path) -> None:
    """Start a process that holds filled memory; return when it is filled."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})

    def work(say_ready: Callable[[], object]) -> None:
        pattern = Pattern(mib << 20)
        holder_file(path).write_text(f"{os.getpid()} {pattern.address} {pattern.count}")
        save(pattern.frames, path)
        say_ready()
        while signal.sigwait({signal.SIGUSR1}):
            pattern.fill()
            save(pattern.frames, path)

    in_background(work, "the pattern could not be laid out")


def hold_still() -> None:
    """Stop the kernel from compacting locked memory, and wait until pages that it was moving have
    arrived (Documentation/admin-guide/sysctl/vm.rst)."""
    COMPACT_LOCKED.write_text("0")
    deadline = time.monotonic() + SETTLE_SECONDS
    while isolated():
        if time.monotonic() > deadline:
            raise SystemExit("the kernel goes on moving pages")
        time.sleep(0.1)


def isolated() -> int:
    """Pages of processes that are on no LRU list, because they are being moved or written out."""
    FOLD_COUNTERS.write_text("1")
    counters = dict(line.split() for line in COUNTERS.read_text().splitlines())
    return int(counters["nr_isolated_anon"])


def settle(path: Path) -> None:
    """Make the holder fill pages that have moved, and wait for the new list."""
    hold_still()
    before = path.stat().st_ino
    os.kill(int(holder_file(path).read_text().split()[0]), signal.SIGUSR1)
    deadline = time.monotonic() + SETTLE_SECONDS
    while path.stat().st_ino == before:
        if time.monotonic() > deadline:
            raise SystemExit("the holder of the pattern does not answer")
        time.sleep(0.1)


def moved(path: Path) -> int:
    """The number of pages that are not in the frame that they were filled for."""
    pid, address, count = map(int, holder_file(path).read_text().split())
    frames = array("Q", path.read_bytes())
    return sum(a != b for a, b in zip(frames, physical(pid, address, count), strict=True))


def main(verb: str, *words: str) -> int:
    path = Path(words[-1])
    if verb == "hold":
        hold(int(words[0]), path)
    elif verb == "settle":
        settle(path)
    elif verb == "moved":
        count = moved(path)
        print(f"{count} pages moved")
        return count > 0
    else:
        raise SystemExit(__doc__)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
