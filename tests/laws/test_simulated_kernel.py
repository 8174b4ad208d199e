"""Invariants of the simulated kernel, on random small machines."""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pykexec.backends.backend import Slot
from pykexec.backends.simulated import SimulatedBackend
from pykexec.backends.simulated.kernel.kimage import KImage
from pykexec.backends.simulated.kernel.layout import Layout, RelocateKernel
from pykexec.backends.simulated.kernel.ram import Ram, apply_journal
from pykexec.backends.simulated.kernel.running import SimulatedKernel
from pykexec.backends.simulated.second.relocate import relocate_kernel
from pykexec.errors import DoesNotFit
from pykexec.machine import Machine
from pykexec.memory.map import MemoryMap, MemoryRange, RangeType
from pykexec.memory.ranges import PhysRange, RangeSet
from pykexec.syscalls import SyscallError
from tests.backends.simulated.images import (
    PAGE,
    CaptureImage,
    capture_image,
    load_bound,
)
from tests.backends.simulated.machines import (
    MIB,
    addresses,
    core_pages,
    fill_pages,
    first_difference,
    once,
    page_noise,
    raw_pages,
)

SMALL = settings(max_examples=25)
POLICIES = st.sampled_from(["random", "lowest", "highest", "fragmented"])
LOWEST_WINDOW = MIB


@st.composite
def memory_maps(draw: st.DrawFn) -> MemoryMap | None:
    """RAM with firmware holes of odd sizes; None for the map of a BIOS PC."""
    if draw(st.booleans()):
        return None
    rows = [MemoryRange(PhysRange(0, draw(st.integers(0x9A000, 0x9FC00))), RangeType.RAM)]
    at = MIB
    for _ in range(draw(st.integers(1, 4))):
        at += draw(st.sampled_from([0, PAGE, 3 * PAGE, 0x1800, 2 * MIB]))
        end = at + draw(st.integers(4 * MIB, 16 * MIB))
        rows.append(MemoryRange(PhysRange(at, end), RangeType.RAM))
        at = end
    return MemoryMap.of(rows)


@st.composite
def machines(draw: st.DrawFn) -> dict[str, object]:
    """Arguments for SimulatedBackend.create."""
    memory_map = draw(memory_maps())
    return {
        "memory": draw(st.integers(8, 64)) * MIB,
        "seed": draw(st.integers(0, 1 << 16)),
        "used": draw(st.integers(0, 75)),
        "allocator": draw(POLICIES),
        "from_machine": Machine("drawn", memory_map=memory_map) if memory_map else None,
    }


@contextmanager
def created(arguments: dict[str, object]) -> Iterator[SimulatedBackend]:
    """A machine in a temporary folder; impossible machines are skipped."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            backend = SimulatedBackend.create(Path(folder, "machine"), **arguments)  # type: ignore[arg-type]
        except DoesNotFit:
            assume(False)
        yield backend


def draw_image(data: st.DataObject, backend: SimulatedBackend) -> CaptureImage:
    """A window anywhere in RAM, with the low memory of this machine."""
    ram = backend.show().memory_map.whole_page_ram(4096)
    low = ram.within(PhysRange(0, MIB)).ranges
    homes = [
        span for span in ram - RangeSet((PhysRange(0, LOWEST_WINDOW),)) if span.size >= 40 * PAGE
    ]
    assume(homes)
    home = data.draw(st.sampled_from(homes))
    room = home.size // PAGE
    pages = data.draw(st.integers(40, min(room, 1500)))
    first = data.draw(st.integers(0, room - pages))
    window = PhysRange.sized(home.start + first * PAGE, pages * PAGE)
    program_headers = pages + 256 + len(ram) + 8
    headers = program_headers * 56 + 4132 + 4096
    assume(headers < (pages - 20) * PAGE)
    return capture_image(window, low, headers=headers, kernel_pages=data.draw(st.integers(1, 4)))


@contextmanager
def loaded(backend: SimulatedBackend) -> Iterator[tuple[KImage, Ram, SimulatedKernel]]:
    """The crash image, and memory that is not saved."""
    with backend.folder.session(write=True) as session:
        kernel = SimulatedKernel(session.state, session.ram)
        yield kernel.images[Slot.CRASH], session.ram, kernel


def try_load(backend: SimulatedBackend, image: CaptureImage) -> None:
    """Load and bind; skips a machine without enough memory."""
    try:
        load_bound(backend, image)
    except SyscallError as error:
        assert error.code in ("ENOMEM", "EINVAL"), error
        assert backend.show().images == RangeSet()
        assume(False)


@SMALL
@given(st.data(), machines())
def test_every_used_page_is_readable_once_and_only_once(
    data: st.DataObject, arguments: dict[str, object]
) -> None:
    """The central property: crash by normal loses nothing and shows nothing twice."""
    with created(arguments) as backend:
        image = draw_image(data, backend)
        folder = backend.folder.path
        before = backend.show()
        expected = fill_pages(folder, addresses(before.in_use))
        try_load(backend, image)
        touched = first_difference(expected, once(raw_pages(folder, list(expected))))
        assert not touched, "a load touched memory in use"
        switched = backend.crash()
        assert switched.vmcore
        found = core_pages(switched.vmcore)
        assert not first_difference(expected, found)
        check_kernel_frames(layout_of(backend), found)
        strangers = set(found) - set(addresses(before.memory_map.whole_page_ram(4096)))
        assert not sorted(strangers)[:3]
        assert max(len(places) for places in found.values()) == 1


def check_kernel_frames(layout: Layout, found: dict[int, list[bytes]]) -> None:
    """Data that the kernel wrote while it crashed is unchanged and in place."""

    def at(addr: int, size: int) -> bytes:
        first = addr - addr % PAGE
        pages = [found[page] for page in range(first, addr + size, PAGE)]
        assert all(len(places) == 1 for places in pages)
        return b"".join(places[0] for places in pages)[addr - first :][:size]

    note = at(layout.vmcoreinfo.addr, layout.vmcoreinfo.size)
    assert note.startswith(
        struct.pack("<III", 11, note.rindex(b"\n") + 1 - 24, 0) + b"VMCOREINFO\0"
    )
    assert b"\nCRASHTIME=" in note
    for cpu in layout.cpus:
        notes = at(cpu.addr, cpu.size)
        assert notes[:20] == struct.pack("<III", 5, 336, 1) + b"CORE\0\0\0\0"
        assert notes[356:] == bytes(12), "an empty header ends the notes"


def layout_of(backend: SimulatedBackend) -> Layout:
    with backend.turns.reading() as (state, _):
        return state.layout


@SMALL
@given(st.data(), machines())
def test_a_source_is_its_own_destination_or_none(
    data: st.DataObject, arguments: dict[str, object]
) -> None:
    """So the order of the copies never matters (kernel-contract 2.3)."""
    with created(arguments) as backend:
        image = draw_image(data, backend)
        free = set(addresses(backend.show().free))
        try_load(backend, image)
        with loaded(backend) as (kimage, ram, _):
            pairs = kimage.page_list(ram).pairs
            lists = kimage.page_list(ram).list_pages
            control, parked = set(addresses(kimage.control_pages)), set(addresses(kimage.parked))
        dests = [dest for dest, _ in pairs]
        sources = [source for _, source in pairs]
        wanted = [
            page for part in image.table.segments for page in addresses(RangeSet.of([part.range]))
        ]
        same = dests == wanted
        assert same, "each destination once, in the order of the segments"
        assert len(set(sources)) == len(sources)
        wanted_set = set(wanted)
        mixed = [source for dest, source in pairs if source != dest and source in wanted_set]
        assert not mixed[:3]
        others = [*lists, *control]
        met = sorted(set(others) & wanted_set)
        assert not met[:3], "a page that must survive the switch is overwritten"
        assert not sorted(parked - wanted_set)[:3]
        held = [*sources, *others, *parked]
        assert len(set(held)) == len(held), "a frame has one use"
        assert not sorted(set(held) - free)[:3], "only free frames were taken"
        words = len(image.table.segments) + len(pairs)
        assert len(lists) == -(-words // 511), "511 words a list page"


@SMALL
@given(st.data(), machines())
def test_swapping_twice_restores_memory(data: st.DataObject, arguments: dict[str, object]) -> None:
    with created(arguments) as backend:
        image = draw_image(data, backend)
        fill_pages(backend.folder.path, addresses(backend.show().in_use))
        try_load(backend, image)
        with loaded(backend) as (kimage, ram, _):
            pairs = kimage.page_list(ram).pairs
            assert kimage.swap_page is not None
            pages = {*(dest for dest, _ in pairs), *(source for _, source in pairs)}
            before = {page: ram.read(page, PAGE) for page in pages}
            relocate_kernel(kimage, ram, RelocateKernel.SWAP)
            swapped = {page: ram.read(page, PAGE) for page in pages}
            assert all(swapped[dest] == before[source] for dest, source in pairs)
            assert all(swapped[source] == before[dest] for dest, source in pairs)
            assert ram.read(kimage.swap_page, PAGE) == before[pairs[-1][1]]
            relocate_kernel(kimage, ram, RelocateKernel.SWAP)
            again = {page: ram.read(page, PAGE) for page in pages}
            assert not first_difference(before, once(again))


@SMALL
@given(st.data(), machines())
def test_unload_gives_every_frame_back(data: st.DataObject, arguments: dict[str, object]) -> None:
    with created(arguments) as backend:
        image = draw_image(data, backend)
        before = backend.show()
        try_load(backend, image)
        while_loaded = backend.show()
        assert while_loaded.in_use == before.in_use
        assert while_loaded.images | while_loaded.free == before.free
        assert not while_loaded.images & while_loaded.free
        assert while_loaded.images.size > image.table.pages(PAGE) * PAGE
        backend.unload(Slot.CRASH)
        assert backend.show() == before


@SMALL
@given(machines(), st.integers(0, 8))
def test_the_frames_of_a_machine_are_each_somebodys(
    arguments: dict[str, object], crashkernel: int
) -> None:
    size = crashkernel * 256 << 10
    with created({**arguments, "crashkernel": size or None}) as backend:
        shown = backend.show()
        reservation = RangeSet((shown.reservation,) if shown.reservation else ())
        parts = [shown.in_use, shown.free, shown.kernel, shown.images, reservation]
        everything = RangeSet()
        for part in parts:
            assert not everything & part
            everything = everything | part
        assert everything == shown.memory_map.whole_page_ram(4096)
        assert backend.machine().totalram == everything.size - reservation.size
        low = shown.memory_map.whole_page_ram(4096).within(PhysRange(0, MIB))
        assert not low - shown.in_use, "the running kernel keeps the low MiB"


MODEL_PAGES = 24
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, MODEL_PAGES * PAGE - 1), st.integers(1, 9000)),
        st.tuples(
            st.sampled_from(["swap", "copy"]),
            st.integers(0, MODEL_PAGES - 1),
            st.integers(0, MODEL_PAGES - 1),
        ),
        st.tuples(
            st.sampled_from(["zero", "poison"]), st.integers(0, MODEL_PAGES - 1), st.integers(1, 5)
        ),
    ),
    max_size=30,
)


@settings(max_examples=60)
@given(OPERATIONS, st.sets(st.integers(0, MODEL_PAGES - 1)))
def test_memory_is_a_bytearray(operations: list[tuple[str, int, int]], full: set[int]) -> None:
    """Ram against the simplest model, before and after the journal is applied."""
    size = MODEL_PAGES * PAGE
    model = bytearray(size)
    with tempfile.TemporaryFile() as file, tempfile.TemporaryFile() as journal:
        file.truncate(size)
        for page in full:
            model[page * PAGE : (page + 1) * PAGE] = page_noise(page)
            file.seek(page * PAGE)
            file.write(page_noise(page))
        file.flush()
        spans = RangeSet((PhysRange(0, size),))
        ram = Ram(file.fileno(), size, spans, journal.fileno())
        for number, (what, one, other) in enumerate(operations):
            apply(model, ram, what, one, other, number)
            same = ram.read(0, size) == model
            assert same
        with tempfile.TemporaryFile() as copy:
            ram.copy_to(copy.fileno(), 2 * PAGE, PhysRange(PAGE, size))
            assert not copy.read(2 * PAGE).strip(b"\0"), "only what was asked for"
            copy.seek(2 * PAGE)
            same = copy.read().ljust(size - PAGE, b"\0") == model[PAGE:]
            assert same
        ram.seal_journal()
        for _ in range(2):
            apply_journal(journal.fileno(), file.fileno(), size)
            same = os.pread(file.fileno(), size + 1, 0) == model
            assert same


def apply(model: bytearray, ram: Ram, what: str, one: int, other: int, number: int) -> None:
    """One operation, on both."""
    if what == "write":
        data = (page_noise(number) * 3)[: min(other, len(model) - one)]
        ram.write(one, data)
        model[one : one + len(data)] = data
        return
    at = one * PAGE
    if what in ("zero", "poison"):
        size = min(other, MODEL_PAGES - one) * PAGE
        ram.zero(at, size) if what == "zero" else ram.poison(at, size)
        model[at : at + size] = (b"\0" if what == "zero" else b"\x6b") * size
        return
    to = other * PAGE
    size = max(1, min(abs(one - other), MODEL_PAGES - max(one, other), 3)) * PAGE
    if at == to:
        return
    here, there = model[at : at + size], model[to : to + size]
    if what == "swap":
        ram.swap(at, to, size)
        model[at : at + size] = there
    else:
        ram.copy(to, at, size)
    model[to : to + size] = here
