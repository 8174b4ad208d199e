"""Physical memory as a sparse file: byte N of the file is physical address N.

That file does not change while a command runs. Writes go to a *journal*, a second sparse file with
the same addresses, which takes effect later by one rename (machine_folder.py). So a killed command
has changed nothing.
"""

from __future__ import annotations

import os
import re

from pykexec.abi.x86.page import PAGE_SIZE
from pykexec.backends.simulated.store.files import (
    CHUNK,
    copy_all,
    fill_all,
    pread_all,
    pwrite_all,
)
from pykexec.errors import KexecError
from pykexec.images.contents import data_extents
from pykexec.memory.ranges import PhysRange, RangeSet, align_down, align_up

HOLE, KEPT, NEW, ZERO, POISON = range(5)
"""The kind of a page: never written; as in the file; in the journal; now zeros; now poison."""
FULL = re.compile(rb"[\x01\x02\x04]+")
COMING = re.compile(rb"[\x02\x04]+")
RUNS = re.compile(rb"\x00+|\x01+|\x02+|\x03+|\x04+")

POISON_BYTE = b"\x6b"
"""The byte that the capture kernel leaves in memory that it uses (POISON_FREE of the kernel)."""
KIND_BYTE = {HOLE: b"\0", ZERO: b"\0", POISON: POISON_BYTE}


class NotMemory(KexecError):
    """An access to a physical address without RAM."""

    code = "not-memory"


class BadRamJournal(KexecError):
    """A journal that cannot be applied: another program changed it."""

    code = "bad-machine"


class Ram:
    """Reads return what was written; the file is unchanged. Addresses and sizes in bytes."""

    def __init__(self, ram_fd: int, size: int, installed: RangeSet, journal_fd: int = -1) -> None:
        """`installed` is the existing memory. With `ram_fd` -1 all of it is zeros; without a
        journal nothing can be written."""
        self.ram_fd = ram_fd
        self.journal_fd = journal_fd
        self.size = size
        self.installed = RangeSet.of(item.outward(PAGE_SIZE) for item in installed)
        self.kinds = bytearray(align_up(size, PAGE_SIZE) // PAGE_SIZE)
        for start, end in data_extents(ram_fd, 0, size) if ram_fd >= 0 else ():
            first, last = start // PAGE_SIZE, (end - 1) // PAGE_SIZE + 1
            self.kinds[first:last] = bytes((KEPT,)) * (last - first)

    @property
    def changed(self) -> bool:
        return any(kind in self.kinds for kind in (NEW, ZERO, POISON))

    def check(self, addr: int, size: int) -> None:
        """Raises NotMemory unless every byte is RAM."""
        held = self.installed.around(addr)
        if held is None or addr + size > held.end:
            raise NotMemory(f"there is no RAM at {addr:#x}..{addr + size:#x}", addr=addr, size=size)

    def read(self, addr: int, size: int) -> bytes:
        """`size` bytes from `addr`. Raises NotMemory."""
        if not size:
            return b""
        self.check(addr, size)
        parts = [
            self._read_one_kind(kind, max(addr, start), min(addr + size, end))
            for kind, start, end in self._runs(addr, size)
        ]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _runs(self, addr: int, size: int) -> list[tuple[int, int, int]]:
        """(kind, start, end) of the pages touched, in order."""
        first, last = addr // PAGE_SIZE, (addr + size - 1) // PAGE_SIZE
        if first == last:
            return [(self.kinds[first], first * PAGE_SIZE, (first + 1) * PAGE_SIZE)]
        return [
            (self.kinds[run.start()], run.start() * PAGE_SIZE, run.end() * PAGE_SIZE)
            for run in RUNS.finditer(self.kinds, first, last + 1)
        ]

    def _read_one_kind(self, kind: int, start: int, end: int) -> bytes:
        if kind in (KEPT, NEW):
            fd = self.ram_fd if kind == KEPT else self.journal_fd
            return pread_all(fd, end - start, start)
        return KIND_BYTE[kind] * (end - start)

    def write(self, addr: int, data: bytes | bytearray | memoryview) -> None:
        """Write bytes. Raises NotMemory, and then nothing was written."""
        size = len(data)
        if not size:
            return
        start, end = align_down(addr, PAGE_SIZE), align_up(addr + size, PAGE_SIZE)
        self.check(start, end - start)
        if end - start != size:
            pages = bytearray(self.read(start, end - start))
            pages[addr - start : addr - start + size] = data
            data = pages
        pwrite_all(self.journal_fd, data, start)
        self._mark(start, end, NEW)

    def zero(self, addr: int, size: int) -> None:
        """Clear whole pages; pages that were never written need no space."""
        self.check(addr, size)
        first, last = addr // PAGE_SIZE, (addr + size) // PAGE_SIZE
        for run in list(FULL.finditer(self.kinds, first, last)):
            self.kinds[run.start() : run.end()] = bytes((ZERO,)) * (run.end() - run.start())

    def poison(self, addr: int, size: int) -> None:
        """Overwrite whole pages with POISON_BYTE."""
        self.check(addr, size)
        self._mark(addr, addr + size, POISON)

    def _mark(self, start: int, end: int, kind: int) -> None:
        first, last = start // PAGE_SIZE, end // PAGE_SIZE
        self.kinds[first:last] = bytes((kind,)) * (last - first)

    def is_zero(self, addr: int, size: int) -> bool:
        """Whether these whole pages are known to be zeros without reading them."""
        return not FULL.search(self.kinds, addr // PAGE_SIZE, (addr + size) // PAGE_SIZE)

    def copy(self, dest: int, source: int, size: int) -> None:
        """Copy whole pages, in chunks; the spans must not overlap."""
        for at in range(0, size, CHUNK):
            step = min(CHUNK, size - at)
            if self.is_zero(source + at, step):
                self.zero(dest + at, step)
            else:
                self.write(dest + at, self.read(source + at, step))

    def swap(self, one: int, other: int, size: int) -> None:
        """Exchange whole pages, in chunks; the spans must not overlap."""
        self.check(one, size)
        self.check(other, size)
        for at in range(0, size, CHUNK):
            step = min(CHUNK, size - at)
            here, there = one + at, other + at
            if self.is_zero(here, step):
                self.copy(here, there, step)
                self.zero(there, step)
            elif self.is_zero(there, step):
                self.copy(there, here, step)
                self.zero(here, step)
            else:
                kept = self.read(here, step)
                self.copy(here, there, step)
                self.write(there, kept)

    def copy_to(self, fd: int, offset: int, span: PhysRange) -> None:
        """Copy whole pages to an empty file, at this offset; pages that were never written or are
        zeros become holes. Raises NotMemory, OSError."""
        self.check(span.start, span.size)
        for kind, start, end in self._runs(span.start, span.size):
            to = offset + start - span.start
            if kind in (KEPT, NEW):
                source = self.ram_fd if kind == KEPT else self.journal_fd
                copy_all(source, fd, end - start, start, to)
            elif kind == POISON:
                fill_all(fd, POISON_BYTE, end - start, to)

    def make_room(self, fd: int) -> None:
        """Allocate blocks in the RAM file for everything that will be written, so that a full disk
        is detected first. The contents of the file do not change. Raises OSError."""
        for run in COMING.finditer(self.kinds):
            start, end = run.start() * PAGE_SIZE, min(run.end() * PAGE_SIZE, self.size)
            os.posix_fallocate(fd, start, end - start)

    def seal_journal(self) -> None:
        """Write the kinds of all pages after the journal's last page, so that it can be applied."""
        pwrite_all(self.journal_fd, self.kinds, len(self.kinds) * PAGE_SIZE)


def apply_journal(journal_fd: int, ram_fd: int, size: int) -> None:
    """Apply the journal to the RAM file of `size` bytes. Idempotent.

    Raises BadRamJournal.
    """
    pages = align_up(size, PAGE_SIZE) // PAGE_SIZE
    if os.fstat(journal_fd).st_size != pages * PAGE_SIZE + pages:
        raise BadRamJournal("ram.new: does not have this machine's size")
    os.ftruncate(ram_fd, size)
    kinds = pread_all(journal_fd, pages, pages * PAGE_SIZE)
    for run in RUNS.finditer(kinds):
        kind = kinds[run.start()]
        if kind in (HOLE, KEPT):
            continue
        start, end = run.start() * PAGE_SIZE, min(run.end() * PAGE_SIZE, size)
        if kind == NEW:
            copy_all(journal_fd, ram_fd, end - start, start, start)
        else:
            fill_all(ram_fd, KIND_BYTE[kind], end - start, start)
