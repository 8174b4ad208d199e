"""2 MiB pages with known physical addresses: the pool, a private hugetlbfs with one file, and
/proc/self/pagemap. If the kernel can make a page of 1 GiB, that is split into 512 adjacent ones.

The file outlives the program, so the pages stay in place until it is removed. Only hwpoison, memory
offlining and migration on request move them (kernel-contract 4.2): call `frames` again before
relying on them.
"""

from __future__ import annotations

import mmap
import os
from array import array
from contextlib import suppress
from errno import ENOMEM, ENOSPC
from pathlib import Path

from pykexec import libc
from pykexec.abi.hugetlb import HUGE_PAGE_SIZE, PM_ENTRY_BYTES, PM_PFRAME_MASK, PM_PRESENT
from pykexec.errors import NotPermitted, NotSupported
from pykexec.host.lock import RUN_FOLDER
from pykexec.host.memory import hugepage_mappers
from pykexec.host.root import THIS_MACHINE, Folder, number
from pykexec.machine import HugePageUser, Unknown

POOL = "/sys/kernel/mm/hugepages/hugepages-2048kB"
GIB_POOL = "/sys/kernel/mm/hugepages/hugepages-1048576kB"
COMPACT = "/proc/sys/vm/compact_memory"
PAGEMAP = "/proc/self/pagemap"


class NoHugePages(NotSupported):
    """This kernel, or this namespace, cannot keep huge pages for pykexec."""

    code = "no-huge-pages"
    usual_hint = "free memory, and try again"


class FramesHidden(NotPermitted):
    """Page frame numbers are zeros without CAP_SYS_ADMIN."""

    code = "frames-hidden"


def frame_address(entry: int) -> int:
    """Physical address from one entry of pagemap (Documentation/admin-guide/mm/pagemap.rst)."""
    if not entry & PM_PRESENT:
        raise NoHugePages(f"{PAGEMAP}: a page is not present")
    if not entry & PM_PFRAME_MASK:
        raise FramesHidden(f"{PAGEMAP}: hides page frames", hint="run as root (CAP_SYS_ADMIN)")
    return (entry & PM_PFRAME_MASK) * mmap.PAGESIZE


def page_frames(addr: int, count: int) -> list[int]:
    """Physical addresses of `count` small pages of this process, all present, starting at the
    virtual address `addr`."""
    entries = array("Q")
    with open(PAGEMAP, "rb", buffering=0) as pagemap:
        pagemap.seek(addr // mmap.PAGESIZE * PM_ENTRY_BYTES)
        while len(entries) < count:
            entries.frombytes(pagemap.read((count - len(entries)) * PM_ENTRY_BYTES))
    return [frame_address(entry) for entry in entries]


class HugePages:
    """The pool of 2 MiB pages, and the file; pages of the file are numbered from 0."""

    def __init__(self, folder: Path = RUN_FOLDER, root: Folder = THIS_MACHINE) -> None:
        self.mount_point = folder / "hugetlbfs"
        self.file = self.mount_point / "stage"
        self.root = root

    def pool(self) -> int:
        """The set size of the pool in pages, used or not. Surplus pages (from overcommit) belong to
        others and disappear when freed; nr_hugepages counts them, but does not set them."""
        return self.count("nr_hugepages") - self.count("surplus_hugepages")

    def count(self, name: str) -> int:
        found = number(self.root, f"{POOL}/{name}")
        if isinstance(found, Unknown):
            raise NoHugePages(found.why, hint="the kernel needs CONFIG_HUGETLBFS=y")
        return found

    def set_pool(self, count: int) -> int:
        """Request a pool of this size; returns the resulting size, which may be smaller."""
        self.order(f"{POOL}/nr_hugepages", count)
        return self.pool()

    def surplus(self) -> int:
        """Pages beyond the pool, which leave it when they are freed."""
        return self.count("surplus_hugepages")

    def overcommit(self) -> int:
        """The limit for surplus pages."""
        return self.count("nr_overcommit_hugepages")

    def set_overcommit(self, count: int) -> None:
        self.order(f"{POOL}/nr_overcommit_hugepages", count)

    def users(self) -> tuple[HugePageUser, ...]:
        """Other processes with huge pages, or with a mapping that reserves some."""
        found = hugepage_mappers(self.root)
        return () if isinstance(found, Unknown) else found

    def compact(self) -> None:
        """Make the kernel compact memory (CONFIG_COMPACTION); it may decline."""
        if self.root.exists(COMPACT):
            self.order(COMPACT, 1)

    def gib_pages(self) -> int | None:
        """Pages of 1 GiB in their pool; None if there is no such pool (a CPU without pdpe1gb), or
        its pages cannot be split (kernels before 5.16)."""
        if self.root.exists(f"{GIB_POOL}/demote") is not True:
            return None
        found = number(self.root, f"{GIB_POOL}/nr_hugepages")
        return None if isinstance(found, Unknown) else found

    def set_gib_pages(self, count: int) -> None:
        """Request this many. The kernel moves the contents of an aligned GiB elsewhere, or
        declines."""
        with suppress(NotPermitted):
            self.order(f"{GIB_POOL}/nr_hugepages", count)

    def split_gib_page(self) -> None:
        """Split a free one into 512 pages of the pool
        (Documentation/admin-guide/mm/hugetlbpage.rst, demote); another program may have taken it
        first."""
        with suppress(NotPermitted):
            self.order(f"{GIB_POOL}/demote", 1)

    def order(self, path: str, value: int) -> None:
        try:
            Path(self.root.locate(path)).write_text(f"{value}\n")
        except OSError as error:
            raise NotPermitted(
                f"{path}: {(error.strerror or str(error)).lower()}", hint="run as root"
            ) from error

    def mount(self) -> None:
        """Mount a private hugetlbfs, but not in the private namespace of a unit, with which it
        would end."""
        if os.path.ismount(self.mount_point):
            return
        if self.in_private_namespace():
            raise NoHugePages(
                "this process has its own mount namespace, with which huge pages would be freed",
                hint="run outside of containers and of units with PrivateMounts= or ProtectSystem=",
            )
        self.mount_point.mkdir(mode=0o700, exist_ok=True)
        flags = libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC
        libc.mount("pykexec", str(self.mount_point), "hugetlbfs", flags, "pagesize=2M,mode=0700")

    def in_private_namespace(self) -> bool:
        """Whether process 1 does not see mounts made here; assumed that it does if that is
        hidden."""
        try:
            mine, first = (os.readlink(f"/proc/{pid}/ns/mnt") for pid in ("self", "1"))
        except OSError:
            return False
        return mine != first

    def unmount(self) -> None:
        """Remove file system and mount point, if they exist."""
        if os.path.ismount(self.mount_point):
            libc.umount(str(self.mount_point))
        if self.mount_point.is_dir():
            self.mount_point.rmdir()

    def open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(self.file, flags, 0o600)

    def reserve(self, first: int, count: int) -> bool:
        """Make the kernel reserve pages [first, first + count) of the file, all or none: a shared
        mapping does that, and the file keeps the reservation
        (Documentation/mm/hugetlbfs_reserv.rst)."""
        fd = self.open()
        try:
            end = (first + count) * HUGE_PAGE_SIZE
            if os.fstat(fd).st_size < end:
                os.ftruncate(fd, end)
            mmap.mmap(fd, count * HUGE_PAGE_SIZE, offset=first * HUGE_PAGE_SIZE).close()
        except OSError as error:
            if error.errno in (ENOMEM, ENOSPC):
                return False
            raise
        finally:
            os.close(fd)
        return True

    def allocate(self, first: int, count: int) -> None:
        """Back the reserved pages [first, first + count) of the file."""
        fd = self.open()
        try:
            libc.fallocate(fd, 0, first * HUGE_PAGE_SIZE, count * HUGE_PAGE_SIZE)
        finally:
            os.close(fd)

    def give_back(self, index: int) -> None:
        """Return one page of the file to the pool."""
        fd = self.open()
        mode = libc.FALLOC_FL_PUNCH_HOLE | libc.FALLOC_FL_KEEP_SIZE
        try:
            libc.fallocate(fd, mode, index * HUGE_PAGE_SIZE, HUGE_PAGE_SIZE)
        finally:
            os.close(fd)

    def remove_file(self) -> None:
        """Return all its pages to the pool."""
        self.file.unlink(missing_ok=True)

    def frames(self, first: int, count: int) -> list[int]:
        """Physical addresses of pages [first, first + count) of the file, all allocated."""
        found: list[int] = []
        with self.mapped(first, count) as memory:
            addr = libc.address_of(memory)
            for offset in range(0, len(memory), HUGE_PAGE_SIZE):
                memory[offset]  # touched, so that it is mapped
                found += page_frames(addr + offset, 1)
        return found

    def mapped(self, first: int, count: int) -> mmap.mmap:
        """These pages of the file as memory of this process, shared."""
        fd = os.open(self.file, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            return mmap.mmap(fd, count * HUGE_PAGE_SIZE, offset=first * HUGE_PAGE_SIZE)
        finally:
            os.close(fd)

    def write(self, index: int, offset: int, data: bytes | memoryview) -> None:
        """Write to one page of the file."""
        with self.mapped(index, 1) as memory:
            memory[offset : offset + len(data)] = bytes(data)

    def read(self, index: int, offset: int, size: int) -> bytes:
        """Read from one page of the file."""
        with self.mapped(index, 1) as memory:
            return memory[offset : offset + size]
