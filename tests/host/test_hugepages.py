"""Huge pages: entries of pagemap and the pool's files; the rest runs only as root."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pykexec.abi.hugetlb import HUGE_PAGE_SIZE
from pykexec.backends.kernel.journal import Journal
from pykexec.backends.kernel.runs import Wanted
from pykexec.backends.kernel.stage import release, reopen, take
from pykexec.errors import KexecError, NotPermitted
from pykexec.host.hugepages import FramesHidden, HugePages, NoHugePages, frame_address
from pykexec.machine import HugePageUser

from .conftest import MakeTree

POOL = "/sys/kernel/mm/hugepages/hugepages-2048kB"
GIB_POOL = "/sys/kernel/mm/hugepages/hugepages-1048576kB"
PRESENT = 1 << 63
SOFT_DIRTY = 1 << 55


def test_frame_address() -> None:
    assert frame_address(PRESENT | SOFT_DIRTY | 0x12345) == 0x12345000


def test_frame_of_an_absent_page() -> None:
    with pytest.raises(NoHugePages, match="/proc/self/pagemap: a page is not present"):
        frame_address(0x12345)


def test_hidden_frames() -> None:
    with pytest.raises(FramesHidden, match="/proc/self/pagemap: hides page frames") as caught:
        frame_address(PRESENT)
    assert caught.value.hint == "run as root (CAP_SYS_ADMIN)"


def test_surplus_is_not_ours(tree: MakeTree, tmp_path: Path) -> None:
    root = tree({f"{POOL}/nr_hugepages": "14\n", f"{POOL}/surplus_hugepages": "10\n"})
    pages = HugePages(tmp_path, root)
    assert pages.pool() == 4
    assert (root.path / POOL.lstrip("/") / "nr_hugepages").read_text() == "14\n"


def test_set_pool(tree: MakeTree, tmp_path: Path) -> None:
    assert HugePages(tmp_path, tree({})).set_pool(7) == 7


def test_gib_pages(tree: MakeTree, tmp_path: Path) -> None:
    root = tree({f"{GIB_POOL}/nr_hugepages": "3\n", f"{GIB_POOL}/demote": ""})
    pages = HugePages(tmp_path, root)
    assert pages.gib_pages() == 3
    pages.set_gib_pages(4)
    assert pages.gib_pages() == 4
    pages.split_gib_page()
    assert (root.path / GIB_POOL.lstrip("/") / "demote").read_text() == "1\n"


@pytest.mark.parametrize("there", [{}, {f"{GIB_POOL}/nr_hugepages": "3\n"}])
def test_no_gib_pages_or_none_that_can_be_split(
    tree: MakeTree, tmp_path: Path, there: dict[str, str | bytes | None]
) -> None:
    assert HugePages(tmp_path, tree(there)).gib_pages() is None


def test_gib_that_is_refused(tree: MakeTree, tmp_path: Path) -> None:
    root = tree({f"{GIB_POOL}/nr_hugepages/x": "", f"{GIB_POOL}/demote/x": ""})
    pages = HugePages(tmp_path, root)
    pages.set_gib_pages(1)
    pages.split_gib_page()
    assert pages.gib_pages() is None


def test_kernel_without_huge_pages(tree: MakeTree, tmp_path: Path) -> None:
    pages = HugePages(tmp_path, tree({f"{POOL}/nr_hugepages": None}))
    with pytest.raises(NoHugePages) as caught:
        pages.pool()
    assert str(caught.value) == f"{POOL}/nr_hugepages: no such file or directory"
    assert caught.value.hint == "the kernel needs CONFIG_HUGETLBFS=y"


def test_order_that_is_refused(tree: MakeTree, tmp_path: Path) -> None:
    root = tree({})
    (root.path / POOL.lstrip("/") / "nr_hugepages").unlink()
    (root.path / POOL.lstrip("/") / "nr_hugepages").mkdir()
    with pytest.raises(NotPermitted, match=f"{POOL}/nr_hugepages: is a directory"):
        HugePages(tmp_path, root).set_pool(1)


def test_who_has_huge_pages(tree: MakeTree, tmp_path: Path) -> None:
    """Also with an untouched mapping, which has reserved its pages."""
    anonymous = "7f0000000000-7f0000600000 rw-p 00000000 00:0f 5      /anon_hugepage (deleted)\n"
    other = "7f0000000000-7f0000600000 rw-p 00000000 00:0f 5          /tmp/x\n"
    root = tree(
        {
            "/proc/88/status": "Name:\tthief\nHugetlbPages:\t       0 kB\n",
            "/proc/88/maps": anonymous * 2 + other,
            "/proc/77/maps": other,
            f"/proc/{os.getpid()}/status": "Name:\tself\nHugetlbPages:\t    8192 kB\n",
        }
    )
    assert HugePages(tmp_path, root).users() == (
        HugePageUser(88, "thief", 12 << 20),
        HugePageUser(77, "qemu", 8 << 20),
    )


def test_overcommit(tree: MakeTree, tmp_path: Path) -> None:
    root = tree({f"{POOL}/nr_overcommit_hugepages": "3\n"})
    pages = HugePages(tmp_path, root)
    assert pages.overcommit() == 3
    pages.set_overcommit(9)
    assert pages.overcommit() == 9


def test_unmount_where_nothing_is_mounted(tmp_path: Path) -> None:
    HugePages(tmp_path).unmount()
    (tmp_path / "hugetlbfs").mkdir()
    HugePages(tmp_path).unmount()
    assert not (tmp_path / "hugetlbfs").exists()


def test_private_namespace_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HugePages, "in_private_namespace", lambda self: True)
    with pytest.raises(NoHugePages, match="this process has its own mount namespace"):
        HugePages(tmp_path).mount()


@pytest.fixture
def real(tmp_path: Path) -> Iterator[HugePages]:
    """This machine's own pool, with a mount point under tmp_path; a few pages, which are
    returned."""
    pages = HugePages(tmp_path)
    if os.geteuid():
        pytest.skip("needs root: hugetlbfs and page frame numbers")
    try:
        before = pages.pool()
        pages.mount()
    except KexecError as error:
        pytest.skip(f"no huge pages here: {error}")
    pages.unmount()
    if pages.set_pool(before + 8) < before + 8:
        pages.set_pool(before)
        pytest.skip("no 8 free huge pages here")
    pages.set_pool(before)
    yield pages
    release(pages, Journal(tmp_path))
    assert pages.pool() == before


def test_real_stage(real: HugePages, tmp_path: Path) -> None:
    before = real.pool()
    journal = Journal(tmp_path)
    stage = take(real, journal, Wanted(singles=3), limit=8)
    assert real.pool() == before + 3
    assert len(set(stage.singles)) == 3
    assert all(addr % HUGE_PAGE_SIZE == 0 and addr for addr in stage.singles)
    assert stage.read(stage.singles[0], 4096) == bytes(4096)
    stage.write(stage.singles[0] + 100, b"still here")
    again = reopen(real, journal)
    assert again is not None
    assert again.read(stage.singles[0] + 100, 10) == b"still here"
    assert again.moved() == ()
    release(real, journal)
    assert real.pool() == before
    assert not real.mount_point.exists()


THIEF = """
import mmap, signal
flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000  # MAP_HUGETLB
held = []
print("ready", flush=True)
while len(held) < 32:
    try:
        held.append(mmap.mmap(-1, 2 << 20, flags))
    except OSError:
        pass
signal.pause()
"""


def test_real_stage_beside_a_process_that_takes_all_it_can(real: HugePages, tmp_path: Path) -> None:
    """The other process gets every page that is briefly idle in the pool."""
    journal = Journal(tmp_path)
    before = real.pool(), real.overcommit()
    with subprocess.Popen([sys.executable, "-c", THIEF], stdout=subprocess.PIPE) as thief:
        try:
            assert thief.stdout
            assert thief.stdout.readline() == b"ready\n"
            for _ in range(3):
                stage = take(real, journal, Wanted(singles=6), limit=64)
                assert len(set(stage.singles)) == 6
                release(real, journal)
        finally:
            thief.kill()
    assert (real.pool(), real.overcommit()) == before


def test_real_run(real: HugePages, tmp_path: Path) -> None:
    try:
        stage = take(real, Journal(tmp_path), Wanted(run=2, singles=1), limit=64)
    except KexecError as error:
        pytest.skip(f"memory is too fragmented: {error}")
    assert stage.run is not None
    assert stage.run.size == 2 * HUGE_PAGE_SIZE
    data = os.urandom(HUGE_PAGE_SIZE)
    stage.write(stage.run.start + 4096, data)
    assert stage.read(stage.run.start + 4096, len(data)) == data
