"""struct kimage: where pages come from, case by case (kernel-contract 2.2, 2.3, 6.3)."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from pykexec.backends.backend import Slot
from pykexec.backends.page_list import BadPageList, read_page_list
from pykexec.backends.simulated import SimulatedBackend
from pykexec.backends.simulated.kernel.allocators import Allocator, Order, Policy, scripted
from pykexec.backends.simulated.kernel.frames import FREE, IMAGE, Frames
from pykexec.backends.simulated.kernel.kimage import KImage
from pykexec.backends.simulated.kernel.running import SimulatedKernel
from pykexec.backends.simulated.kernel.syscall import kexec_load
from pykexec.backends.simulated.store.machine_folder import MachineFolder
from pykexec.images.contents import Built
from pykexec.memory.ranges import RangeSet
from pykexec.placement.segment import Segment, SegmentTable
from pykexec.syscalls import SyscallError
from tests.backends.simulated.images import PAGE
from tests.backends.simulated.machines import MIB, addresses, page_noise

AT = 5 * MIB
FIRST = AT // PAGE
"""Frame number of the first destination; free, as the machine below has no used memory."""


@pytest.fixture
def folder(tmp_path: Path) -> MachineFolder:
    """12 MiB with only the kernel and the low MiB in use."""
    return SimulatedBackend.create(
        tmp_path / "m", 12 * MIB, used=0, seed=1, allocator="lowest"
    ).folder


def table_of(pages: int, at: int = AT) -> SegmentTable:
    """A table in which each page has distinct contents."""
    data = b"".join(page_noise(at + n * PAGE) for n in range(pages))
    return SegmentTable((Segment("image", at, pages * PAGE, "test", Built(data)),), entry=at)


def loaded(
    folder: MachineFolder, order: Order | None, table: SegmentTable
) -> tuple[KImage, list[tuple[int, int]], RangeSet]:
    """The image, its (destination, source) frame numbers, and the frames that it holds; also checks
    the contents of each page."""
    with folder.session(write=True) as session:
        kernel = SimulatedKernel(session.state, session.ram, order)
        image = kexec_load(kernel, table)
        assert image
        pairs = image.page_list(session.ram).pairs
        for dest, source in pairs:
            right = session.ram.read(source, PAGE) == page_noise(dest)
            assert right, f"source of {dest:#x}"
        assert kernel.frames.of(IMAGE) == image.frames(session.ram)
        return (
            image,
            [(dest // PAGE, source // PAGE) for dest, source in pairs],
            image.frames(session.ram),
        )


# Frame numbers of free frames that are not destinations here.
CONTROL, SWAP, LIST, A, B, C, D = 2000, 2010, 2020, 2030, 2031, 2040, 2050


def script(*pfns: int) -> Order:
    """Control code (two frames), swap page, page tables (PUD, PMD), list, then these."""
    return scripted((CONTROL, CONTROL + 1, SWAP, 1990, 1991, LIST, *pfns))


# Frames that the allocator returns for 3 pages at FIRST: the use of each, and which stay parked.
CASES: dict[str, tuple[Iterable[int], list[int], list[int]]] = {
    "c: sources anywhere": ((A, B, C), [A, B, C], []),
    "b: the destination itself": ((FIRST, FIRST + 1, FIRST + 2), [FIRST, FIRST + 1, FIRST + 2], []),
    "e: a later destination is parked, a: and used in its turn": (
        (FIRST + 2, A, B), [A, B, FIRST + 2], [],
    ),
    "e: two are parked": ((FIRST + 2, FIRST + 1, A), [A, FIRST + 1, FIRST + 2], []),
    "d: an earlier destination runs in place, its source is used": (
        (A, FIRST, B), [FIRST, A, B], [],
    ),
    "d: twice": ((A, FIRST, FIRST + 1, B), [FIRST, FIRST + 1, A], []),
    "d: the source of a source": ((A, B, FIRST, C), [FIRST, B, A], []),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_where_a_page_comes_from(name: str, folder: MachineFolder) -> None:
    handed, expected, parked = CASES[name]
    image, pairs, held = loaded(folder, script(*handed), table_of(3))
    assert pairs == [(FIRST + n, source) for n, source in enumerate(expected)]
    assert [addr // PAGE for addr in addresses(image.parked)] == parked
    assert image.swap_page == SWAP * PAGE
    frames = {addr // PAGE for addr in addresses(held)}
    assert {*expected, *parked, CONTROL, CONTROL + 1, SWAP, LIST} <= frames


def test_d_for_the_list_itself(folder: MachineFolder) -> None:
    """A destination that is loaded already is allocated for a list page: its source becomes the
    list page."""
    free = [addr // PAGE for addr in addresses(SimulatedBackend(folder).show().free)]
    sources = [pfn for pfn in free if pfn > max(D, FIRST + 511)][:510]
    image, pairs, held = loaded(folder, script(*sources, D, FIRST), table_of(511))
    assert pairs[0] == (FIRST, FIRST), "in place by now"
    same = pairs[1:510] == [(FIRST + n, sources[n]) for n in range(1, 510)]
    assert same
    assert pairs[510] == (FIRST + 510, D)
    assert sources[0] * PAGE in held, "the second list page"
    assert image.head == LIST * PAGE | 2


def test_a_parked_frame_waits_for_another_segment(folder: MachineFolder) -> None:
    early = FIRST - 8
    at = early * PAGE
    second = Segment("second", at, PAGE, "test", Built(page_noise(at)))
    table = table_of(2)
    table = SegmentTable((*table.segments, second), table.entry)
    image, pairs, held = loaded(folder, script(A, early, B, C), table)
    assert pairs == [(FIRST, A), (FIRST + 1, B), (early, early)]
    assert not image.parked
    assert at in held


def test_control_and_swap_pages_avoid_destinations(folder: MachineFolder) -> None:
    """Unsuitable blocks are held until a suitable one is found, then freed."""
    order = scripted((FIRST, FIRST + 1, FIRST + 2, FIRST + 3, CONTROL, CONTROL + 1))
    image, pairs, _ = loaded(folder, order, table_of(4))
    control = {addr // PAGE for addr in addresses(image.control_pages)}
    assert not control & {dest for dest, _ in pairs}
    assert image.swap_page
    assert image.swap_page // PAGE in control
    assert len(control) == 5, "code (2), PUD, PMD, swap page"
    code = min(pfn for pfn in control if pfn + 1 in control)
    assert code % 2 == 0, "8 KiB aligned"


# Pages of one segment, and the list pages for them: 511 words each, and one DESTINATION.
LISTS = {1: 1, 510: 1, 511: 2, 1021: 2, 1022: 3}


@pytest.mark.parametrize("pages", LISTS)
def test_list_pages(pages: int, folder: MachineFolder) -> None:
    image, _, _ = loaded(folder, None, table_of(pages))
    with folder.session(write=True) as session:
        kernel = SimulatedKernel(session.state, session.ram)
        kexec_load(kernel, table_of(pages))
        found = kernel.images[Slot.NORMAL].page_list(session.ram)
        assert len(found.list_pages) == LISTS[pages]
        last = struct.unpack("<512Q", session.ram.read(found.list_pages[-1], PAGE))
        done = (pages + 1) % 511 or 511
        assert last[done] == 4, "IND_DONE, in the link's place when the page is full"
        assert not any(last[done + 1 :])
    assert image.head & 0xFFF == 2


def test_zeros_up_to_memsz(folder: MachineFolder) -> None:
    """Regardless of the old contents of the source pages."""
    with open(folder.path / "ram", "r+b") as ram:
        ram.seek(MIB)
        ram.write(b"\xee" * (10 * MIB))
    text = b"0123456789" * 500
    table = SegmentTable(
        (
            Segment("short", AT, 4 * PAGE, "test", Built(text)),
            Segment("none", AT + 4 * PAGE, 2 * PAGE, "test"),
        ),
        entry=AT,
    )
    with folder.session(write=True) as session:
        kernel = SimulatedKernel(session.state, session.ram)
        image = kexec_load(kernel, table)
        assert image
        sources = [source for _, source in image.page_list(session.ram).pairs]
        whole = b"".join(session.ram.read(source, PAGE) for source in sources)
        right = whole == text.ljust(6 * PAGE, b"\0")
        assert right


def test_no_memory_gives_everything_back(tmp_path: Path) -> None:
    backend = SimulatedBackend.create(tmp_path / "m", 12 * MIB, used=95, seed=1)
    before = backend.show()
    with pytest.raises(SyscallError) as caught:
        backend.load(table_of(1000))
    assert (caught.value.code, caught.value.rule, caught.value.exit_status) == ("ENOMEM", "G", 6)
    assert 'no source page for segment "image"' in caught.value.message
    assert backend.show() == before


@pytest.mark.parametrize("policy", Policy)
def test_a_policy_hands_out_every_free_frame_once(policy: Policy, tmp_path: Path) -> None:
    folder = SimulatedBackend.create(tmp_path / "m", 12 * MIB, seed=3).folder
    with folder.session(write=False) as session:
        frames = Frames(session.state.layout)
    free = [addr // PAGE for addr in addresses(frames.of(FREE))]
    allocator = Allocator(frames, policy.order, Random(7))
    handed = []
    while (pfn := allocator.page()) is not None:
        handed.append(pfn)
    assert sorted(handed) == free
    assert not frames.count(FREE)
    if policy is Policy.LOWEST:
        assert handed == free
    if policy is Policy.HIGHEST:
        assert handed == free[::-1]
    runs = 1 + sum(after != before + 1 for before, after in pairwise(handed))
    if policy is Policy.RANDOM:
        assert runs > len(free) * 0.9, "the worst case"
    if policy is Policy.FRAGMENTED:
        assert len(free) / 40 < runs < len(free) / 4
    allocator.give_back(handed[5])
    assert allocator.page() == handed[5]


BAD_LISTS = {
    "no end": ([0x1000 | 1, 0x2000 | 8, 0], "ends in 0x0"),
    "a source first": ([0x2000 | 8, 4], "comes before any destination"),
    "no flag": ([0x1000 | 1, 0x2000], "0x2000 is not an entry"),
    "too many": ([0x1000 | 1, *[0x2000 | 8] * 9, 4], "more than 8 sources"),
    "full without a link": ([0x1000 | 1] * 512, "instead of IND_DONE"),
}


@pytest.mark.parametrize("name", BAD_LISTS)
def test_a_list_that_no_kernel_wrote(name: str) -> None:
    words, text = BAD_LISTS[name]
    page = struct.pack(f"<{len(words)}Q", *words).ljust(PAGE, b"\0")
    with pytest.raises(BadPageList, match=text):
        read_page_list(lambda addr, size: page, 0x5000 | 2, 8, 4096)


def test_a_list_that_bites_its_tail() -> None:
    page = struct.pack("<512Q", *[1] * 511, 0x5000 | 2)
    with pytest.raises(BadPageList, match="it has no end"):
        read_page_list(lambda addr, size: page, 0x5000 | 2, 8, 4096)
