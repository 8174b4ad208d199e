"""From the switch to the dump: what starts, what does not, and the errors."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pykexec.backends.backend import Loaded, LoadState, Slot
from pykexec.backends.simulated import SimulatedBackend
from pykexec.crash.notes import parse_notes, vmcoreinfo_values
from pykexec.errors import KexecError
from pykexec.memory.ranges import PhysRange, RangeSet
from pykexec.placement.segment import Segment, SegmentTable
from tests.backends.simulated.images import (
    NORMAL,
    ON_CRASH,
    PAGE,
    CaptureImage,
    capture_image,
    core_headers,
    load_bound,
)
from tests.backends.simulated.machines import (
    MIB,
    addresses,
    core_pages,
    fill_pages,
    first_difference,
    page_noise,
    raw_pages,
)

WINDOW = PhysRange.sized(20 * MIB, 2 * MIB)


@pytest.fixture
def backend(tmp_path: Path) -> SimulatedBackend:
    return SimulatedBackend.create(tmp_path / "machine", 32 * MIB, seed=5)


def test_crash_by_normal_leaves_a_dump(backend: SimulatedBackend) -> None:
    image = capture_image(WINDOW)
    expected = fill_pages(backend.folder.path, addresses(backend.show().in_use))
    load_bound(backend, image)
    assert backend.status() == {Slot.NORMAL: LoadState.NOT_LOADED, Slot.CRASH: LoadState.LOADED}
    switched = backend.crash()
    assert switched.vmcore == backend.folder.path / "vmcore"
    assert switched.vmcore_size == switched.vmcore.stat().st_size
    assert switched.cmdline.startswith("console=ttyS0 elfcorehdr=0x")
    assert len(switched.checked) == 2
    found = core_pages(switched.vmcore)
    assert not first_difference(expected, found)
    assert backend.status() == dict.fromkeys(Slot, LoadState.NOT_LOADED)


def test_the_capture_kernel_overwrites_all_its_memory(backend: SimulatedBackend) -> None:
    image = capture_image(WINDOW)
    load_bound(backend, image)
    backend.crash()
    own = addresses(RangeSet.of(image.own))
    pages = raw_pages(backend.folder.path, own)
    assert set(pages.values()) == {b"\x6b" * PAGE}
    outside = addresses(RangeSet((image.elfcorehdr,)))
    assert b"\x6b" * PAGE not in raw_pages(backend.folder.path, outside).values()


def test_notes_of_the_dump(backend: SimulatedBackend) -> None:
    load_bound(backend, capture_image(WINDOW))
    switched = backend.crash()
    assert switched.vmcore
    with open(switched.vmcore, "rb") as file:
        file.seek(64)
        kind, _, offset, _, _, size = struct.unpack("<IIQQQQ", file.read(40))
        assert kind == 4
        file.seek(offset)
        notes = list(parse_notes(file.read(size)))
    assert [(note.name, note.type, len(note.desc)) for note in notes[:2]] == [
        (b"CORE", 1, 336),
        (b"CORE", 1, 336),
    ]
    pids = [struct.unpack_from("<I", note.desc, 32)[0] for note in notes[:2]]
    assert pids == [1234, 0]
    values = vmcoreinfo_values(notes[2].desc)
    assert values["CRASHTIME"] == "1190964010"
    assert values["OSRELEASE"] == backend.machine().release
    assert values["PAGESIZE"] == "4096"
    start = int(values["SYMBOL(_stext)"], 16)
    image = backend.machine().kernel_image
    assert isinstance(image, RangeSet)
    physical = start - 0xFFFFFFFF80000000 + int(values["NUMBER(phys_base)"])
    assert physical == image.ranges[0].start
    assert start - 0xFFFFFFFF81000000 == int(values["KERNELOFFSET"], 16)


def test_drgn_opens_the_dump(backend: SimulatedBackend) -> None:
    drgn = pytest.importorskip("drgn")
    used = addresses(backend.show().in_use.within(WINDOW))
    fill_pages(backend.folder.path, used)
    load_bound(backend, capture_image(WINDOW))
    switched = backend.crash()
    program = drgn.Program()
    program.set_core_dump(switched.vmcore)
    assert program.flags & drgn.ProgramFlags.IS_LINUX_KERNEL
    for addr in used[:: len(used) // 20]:
        assert program.read(addr, PAGE, physical=True) == page_noise(addr)


def test_the_first_kernel_is_back_with_the_next_load(backend: SimulatedBackend) -> None:
    """Two crashes in a row: the second dump is as complete as the first."""
    for _ in range(2):
        expected = fill_pages(backend.folder.path, addresses(backend.show().in_use))
        load_bound(backend, capture_image(WINDOW))
        switched = backend.crash()
        assert switched.vmcore
        found = core_pages(switched.vmcore)
        assert not first_difference(expected, found)


def test_a_reserved_crash_kernel(tmp_path: Path) -> None:
    backend = SimulatedBackend.create(tmp_path / "m", 64 * MIB, crashkernel=4 * MIB)
    reservation = backend.show().reservation
    assert reservation
    window = PhysRange(reservation.start + 64 * PAGE, reservation.end)
    draft = capture_image(window, flags=ON_CRASH)
    # The kernel's control pages come from the front of the reservation.
    low = PhysRange(0x1000, 0x9F000)
    headers = reserved_headers(backend, draft)
    image = capture_image(window, flags=ON_CRASH, elfcorehdr_bytes=headers)
    table = replace(
        image.table,
        segments=tuple(part for part in image.table.segments if part.mem >= low.end),
    )
    expected = fill_pages(backend.folder.path, addresses(backend.show().in_use - RangeSet((low,))))
    loaded = backend.load(table)
    assert loaded.slot is Slot.CRASH
    assert loaded.backup_map is None
    switched = backend.crash()
    assert switched.vmcore
    found = core_pages(switched.vmcore)
    assert not first_difference(expected, found)


def reserved_headers(backend: SimulatedBackend, image: CaptureImage) -> bytes:
    """Headers for an image that moves nothing; the dump lacks its low memory."""
    machine = backend.machine()
    shown = backend.show()
    left_out = RangeSet.of([PhysRange(0x1000, 0x9F000)])
    assert shown.reservation
    reduced = replace(machine, crash_kernel=RangeSet((shown.reservation,)) | left_out)
    return core_headers(reduced, Loaded(Slot.CRASH), image.elfcorehdr.start)


def test_kexec_e_leaves_cpu_notes_empty(backend: SimulatedBackend) -> None:
    """kernel-contract 6.5: a normal kexec does not write CPU notes, but VMCOREINFO is valid."""
    load_bound(backend, capture_image(WINDOW, flags=NORMAL))
    switched = backend.exec()
    assert switched.vmcore
    raw = switched.vmcore.read_bytes()
    assert b"VMCOREINFO" in raw
    assert b"CRASHTIME=" not in raw
    assert struct.pack("<III", 5, 336, 1) + b"CORE" not in raw


def test_kexec_e_of_a_plain_kernel(backend: SimulatedBackend) -> None:
    backend.load(capture_image(WINDOW, flags=NORMAL, cmdline="quiet", sealed=False).table)
    switched = backend.exec()
    assert switched.vmcore is None
    assert switched.cmdline == "quiet"


def with_nothing(backend: SimulatedBackend) -> None:
    """No image at all."""


def without_bind(backend: SimulatedBackend) -> None:
    backend.load(capture_image(WINDOW).table)


def with_cmdline(text: str) -> Callable[[SimulatedBackend], None]:
    def prepare(backend: SimulatedBackend) -> None:
        load_bound(backend, capture_image(WINDOW, cmdline=text))

    return prepare


def without_low(backend: SimulatedBackend) -> None:
    load_bound(backend, capture_image(WINDOW, low=()))


def with_low_but_not_loaded(backend: SimulatedBackend) -> None:
    """The e820 has low memory that is not in a segment, so nothing moves it away."""
    image = capture_image(WINDOW)
    table = replace(image.table, segments=image.table.segments[1:])
    load_bound(backend, replace(image, table=table))


def with_damage(name: str) -> Callable[[SimulatedBackend], None]:
    """A byte of a source page is changed after the load, as by a stray DMA."""

    def prepare(backend: SimulatedBackend) -> None:
        image = capture_image(WINDOW)
        loaded = load_bound(backend, image)
        part = image.table.named(name)
        assert part
        assert loaded.backup_map
        where = loaded.backup_map.now(part.mem)
        assert where is not None, "this page runs in place; choose another seed"
        with open(backend.folder.path / "ram", "r+b") as ram:
            ram.seek(where + 5)
            byte = ram.read(1)
            ram.seek(where + 5)
            ram.write(bytes((byte[0] ^ 1,)))

    return prepare


def with_entry(addr: int) -> Callable[[SimulatedBackend], None]:
    def prepare(backend: SimulatedBackend) -> None:
        image = capture_image(WINDOW)
        load_bound(backend, replace(image, table=replace(image.table, entry=addr)))

    return prepare


def with_a_segment_outside(backend: SimulatedBackend) -> None:
    """The kernel does not check that a destination is RAM."""
    image = capture_image(WINDOW)
    apic = Segment("lapic", 0xFEE00000, PAGE, "test")
    table = SegmentTable((*image.table.segments, apic), image.table.entry, image.table.flags)
    load_bound(backend, replace(image, table=table))


FAILURES: dict[str, tuple[Callable[[SimulatedBackend], None], str, str]] = {
    "nothing is loaded": (with_nothing, "nothing-loaded", "no crash image is loaded"),
    "headers were never bound": (without_bind, "digest-mismatch", "never bound"),
    "kernel damaged": (with_damage("kernel"), "digest-mismatch", "region 0x"),
    "boot_params damaged": (with_damage("boot_params"), "digest-mismatch", "region 0x"),
    "tables damaged": (with_damage("tables"), "digest-mismatch", "tables at 0x"),
    "headers damaged": (with_damage("elfcorehdr"), "digest-mismatch", "ELF core headers at 0x"),
    "stub damaged": (with_damage("stub"), "switch-failed", "at the entry 0x"),
    "no elfcorehdr=": (with_cmdline("quiet"), "vmcore-not-initialized", "no elfcorehdr="),
    "headers in its own RAM": (
        with_cmdline(f"elfcorehdr={WINDOW.start:#x}"), "vmcore-not-initialized", "EFAULT",
    ),
    "headers elsewhere": (
        with_cmdline("elfcorehdr=16M"), "vmcore-not-initialized", "no ELF magic",
    ),
    "headers outside of RAM": (
        with_cmdline("elfcorehdr=1K@0xfee00000"), "vmcore-not-initialized", "no RAM at 0xfee00000",
    ),
    "no memory below 1 MiB": (without_low, "switch-failed", "Real mode trampoline"),
    "low memory in no segment": (with_low_but_not_loaded, "vmcore-unreadable", "EFAULT"),
    "entry without a stub": (with_entry(WINDOW.start + 8 * PAGE), "switch-failed", "not a stub"),
    "entry outside of RAM": (with_entry(0xFFFFFFFFFFFFF000), "switch-failed", "no RAM at"),
    "destination is no RAM": (with_a_segment_outside, "switch-failed", "the machine hangs"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_no_dump_and_nothing_changed(name: str, backend: SimulatedBackend) -> None:
    prepare, code, words = FAILURES[name]
    prepare(backend)
    folder = backend.folder.path
    before = (folder / "machine.json").read_bytes(), (folder / "ram").read_bytes()
    with pytest.raises(KexecError) as caught:
        backend.crash()
    assert caught.value.code == code
    assert words in caught.value.message
    assert "\n" not in caught.value.message
    assert sorted(path.name for path in folder.iterdir()) == ["lock", "machine.json", "ram"]
    unchanged = before == ((folder / "machine.json").read_bytes(), (folder / "ram").read_bytes())
    assert unchanged
