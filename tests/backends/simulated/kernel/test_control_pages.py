"""Control pages: how many, and where in a reservation they go (kernel-contract 6.3)."""

from __future__ import annotations

from pathlib import Path

import pytest

from pykexec.backends.simulated import SimulatedBackend
from pykexec.backends.simulated.kernel.kimage_crash import crash_control_pages
from pykexec.backends.simulated.kernel.kimage_normal import OutOfMemory
from pykexec.backends.simulated.kernel.running import SimulatedKernel
from pykexec.images.contents import Built
from pykexec.machine import Machine
from pykexec.memory.map import MemoryMap, MemoryRange, RangeType
from pykexec.memory.ranges import PhysRange, RangeSet
from pykexec.placement.segment import Segment, SegmentTable
from pykexec.syscalls import SyscallError
from tests.backends.simulated.images import ON_CRASH, PAGE
from tests.backends.simulated.machines import MIB, addresses

# What the identity map must cover on a machine of 12 MiB: page tables that it needs (PUD, PMD).
IDENTITY_MAPS = {
    "memory": ((), 2),
    "a segment in the same GiB": ((PhysRange.sized(900 * MIB, PAGE),), 2),
    "a segment in another GiB": ((PhysRange.sized(5 << 30, PAGE),), 3),
    "a segment in the same 512 GiB": ((PhysRange.sized(300 << 30, PAGE),), 3),
    "a segment across two": ((PhysRange((5 << 30) - PAGE, (5 << 30) + PAGE),), 4),
    "a segment above 512 GiB": ((PhysRange.sized(600 << 30, PAGE),), 4),
}


@pytest.mark.parametrize("name", IDENTITY_MAPS)
@pytest.mark.parametrize("relocate", ["swap", "copy"])
def test_control_pages(name: str, relocate: str, tmp_path: Path) -> None:
    """Code and PGD are one block of two pages before 6.14, and two separate pages since."""
    folder = SimulatedBackend.create(tmp_path / "m", 12 * MIB, used=0, relocate=relocate).folder
    spans, tables = IDENTITY_MAPS[name]
    swaps = relocate == "swap"
    code = (1 if swaps else 0, "control code page")
    page_tables = [(0, "page table")] * (tables + (not swaps))
    with folder.session(write=False) as session:
        kernel = SimulatedKernel(session.state, session.ram)
        normal = kernel.control_orders(RangeSet.of(spans), crash=False)
        crash = kernel.control_orders(RangeSet.of(spans), crash=True)
    assert list(normal) == [code, (0, "swap page"), *page_tables]
    assert list(crash) == [code, *page_tables, (0, "vmcoreinfo copy")]


def test_the_identity_map_reaches_acpi_tables(tmp_path: Path) -> None:
    rows = (
        (0x1000, 64 * MIB, "RAM"),
        (3 << 30, (3 << 30) + PAGE, "ACPI"),
        (5 << 30, 5 << 30, "NVS"),
    )
    known = MemoryMap.of(
        MemoryRange(PhysRange(start, end + PAGE), RangeType[kind]) for start, end, kind in rows
    )
    folder = SimulatedBackend.create(
        tmp_path / "m", from_machine=Machine("m", memory_map=known)
    ).folder
    with folder.session(write=False) as session:
        orders = SimulatedKernel(session.state, session.ram).control_orders(RangeSet(), crash=True)
    assert [what for _, what in orders].count("page table") == 4, "PUD, and PMDs of three GiB"


# Segments in a reservation of 16 pages, by page: the places of code (2 pages, aligned) and 3 more.
CARVED = {
    "none at the start": ((8, 2), [0, 1, 2, 3, 4]),
    "one in the first block": ((1, 1), [2, 3, 4, 5, 6]),
    "one page at the start": ((0, 1), [2, 3, 4, 5, 6]),
    "three pages at the start": ((0, 3), [4, 5, 6, 7, 8]),
    "in the middle": ((3, 4), [0, 1, 2, 7, 8]),
    "up to the last page that is needed": ((5, 11), [0, 1, 2, 3, 4]),
}


@pytest.mark.parametrize("name", CARVED)
def test_control_pages_from_the_reservation(name: str) -> None:
    """kimage_alloc_crash_control_pages: upward, aligned to their size, around segments."""
    (first, count), expected = CARVED[name]
    home = PhysRange.sized(16 * MIB, 16 * PAGE)
    segments = RangeSet((PhysRange.sized(home.start + first * PAGE, count * PAGE),))
    orders = ((1, "code"), (0, "a"), (0, "b"), (0, "c"))
    carved = crash_control_pages(home, segments, orders)
    assert [(addr - home.start) // PAGE for addr in addresses(carved)] == expected


def test_no_control_page_behind_the_reservation() -> None:
    home = PhysRange.sized(16 * MIB, 16 * PAGE)
    full = RangeSet((PhysRange(home.start + 4 * PAGE, home.end),))
    orders = ((1, "code"), (0, "a"), (0, "b"), (0, "c"))
    with pytest.raises(OutOfMemory, match="c in the reservation"):
        crash_control_pages(home, full, orders)


# Smallest reservation for a segment of one page at its start [observed on real kernels].
MINIMUM = {
    ("swap", 1 << 30): 28 << 10,
    ("swap", 2 << 30): 32 << 10,
    ("copy", 1 << 30): 24 << 10,
}


@pytest.mark.parametrize(("relocate", "memory"), MINIMUM)
def test_the_smallest_reservation(relocate: str, memory: int, tmp_path: Path) -> None:
    enough = MINIMUM[relocate, memory]
    for size in (enough - PAGE, enough):
        backend = SimulatedBackend.create(
            tmp_path / str(size), memory, relocate=relocate, crashkernel=size
        )
        reservation = backend.show().reservation
        assert reservation
        assert reservation.size == size
        table = SegmentTable(
            (Segment("stub", reservation.start, PAGE, "test", Built(b"x")),),
            reservation.start,
            ON_CRASH,
        )
        if size == enough:
            backend.load(table)
            continue
        with pytest.raises(SyscallError) as caught:
            backend.load(table)
        assert caught.value.code == "ENOMEM"
        assert "in the reservation" in caught.value.message
