"""For any sequence of calls, no frame is lost or has two owners, and a refusal leaves the state
that the contract describes.

Hypothesis takes random steps on a small machine; after each step its folder is checked from
outside, with this file's own page list walker and the raw bytes of `ram`.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pykexec.backends.backend import Slot
from pykexec.backends.simulated import SimulatedBackend
from pykexec.backends.simulated.kernel.frames import IMAGE
from pykexec.backends.simulated.kernel.gates import Gates, Lockdown
from pykexec.backends.simulated.kernel.kimage import KImage
from pykexec.backends.simulated.kernel.layout import RelocateKernel
from pykexec.backends.simulated.second.relocate import relocate_kernel
from pykexec.errors import DoesNotFit, KexecError
from pykexec.images.contents import Built, FileSpan, OpenFile
from pykexec.memory.ranges import PhysRange, RangeSet
from pykexec.placement.segment import Segment, SegmentTable
from tests.backends.simulated.images import (
    NORMAL,
    ON_CRASH,
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
    raw_pages,
)

LOW = (PhysRange(0x1000, 0x3000),)
WINDOW_PAGES = 48
KINDS = ("normal", "crash", "by normal")
GATES: tuple[dict[str, object], ...] = (
    {},
    {"busy": True},
    {"lockdown": Lockdown.INTEGRITY},
    {"kexec_load_disabled": True},
    {"cap_sys_boot": False},
    {"ima_appraise": True},
)
PLACES, KERNEL_PAGES = st.integers(0, 3), st.integers(1, 5)


@dataclass(frozen=True)
class Held:
    """A loaded image, as the test knows it."""

    kind: str
    table: SegmentTable
    whole: bool
    """Whether a switch to it leads to a kernel that comes up."""


def fault(name: str, table: SegmentTable, folder: Path, half: int) -> SegmentTable:
    """The table with one fault."""
    first, *rest = table.segments
    if name == "too many":
        more = tuple(Segment(f"more{n}", n * PAGE, PAGE, "test") for n in range(16))
        return replace(table, segments=(*table.segments, *more))
    if name == "unaligned":
        return replace(table, segments=(replace(first, mem=first.mem + 1), *rest))
    if name == "overlap":
        return replace(table, segments=(first, *table.segments))
    if name == "unreadable":
        path = folder / "gone"
        path.write_bytes(bytes(PAGE))
        span = FileSpan(OpenFile(path), 0, PAGE)
        path.write_bytes(b"")
        return replace(table, segments=(*rest, replace(first, buf=span)))
    assert name in ("half of memory", "no memory")
    pages = half + (1 if name == "half of memory" else -len(rest) - 60)
    big = Segment("big", 1 << 32, pages * PAGE, "test")
    return replace(table, segments=(big, *table.segments))


REFUSALS = {
    "too many": "EINVAL",
    "unaligned": "EADDRNOTAVAIL",
    "overlap": "EINVAL",
    "half of memory": "EINVAL",
    "no memory": "ENOMEM",
    "unreadable": "unreadable-file",
}


def walk(memory: bytes, head: int) -> tuple[list[tuple[int, int]], list[int]]:
    """(destination, source) of each page, and the list pages: kernel-contract 2.2."""
    pairs, lists, dest, link = [], [], 0, head
    while not link & 4:
        lists.append(link & ~0xFFF)
        for word in struct.unpack_from("<512Q", memory, link & ~0xFFF):
            addr = word & ~0xFFF
            if word & (4 | 2):
                link = word
                break
            if word & 1:
                dest = addr
                continue
            assert word & 8, "neither destination nor source"
            pairs.append((dest, addr))
            dest += PAGE
    return pairs, lists


class KexecSequences(RuleBasedStateMachine):
    """`held` and `gates` are the state that the contract requires."""

    backend: SimulatedBackend

    @initialize(
        allocator=st.sampled_from(["random", "lowest", "highest", "fragmented"]),
        used=st.sampled_from([52, 52, 75, 92]),
        relocate=st.sampled_from(["swap", "swap", "copy"]),
        reserved=st.booleans(),
        seed=st.integers(0, 1 << 16),
    )
    def boots(self, allocator: str, used: int, relocate: str, reserved: bool, seed: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "machine")
        try:
            self.backend = SimulatedBackend.create(
                self.path,
                20 * MIB if reserved else 10 * MIB,
                seed=seed,
                used=used,
                allocator=allocator,
                relocate=relocate,
                crashkernel=MIB if reserved else None,
            )
        except DoesNotFit:
            assume(False)  # an impossible machine
        self.swaps = relocate == "swap"
        self.quarter = seed % 4
        self.start = self.backend.show()
        self.region = self.start.reservation
        self.is_made = False
        self.held: dict[Slot, Held] = {}
        self.gates = Gates()
        self.writes()

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()

    @rule()
    def writes(self) -> None:
        """The first kernel writes to a quarter of its memory, a different one on each machine."""
        self.contents = fill_pages(self.path, addresses(self.start.in_use)[self.quarter :: 4])

    @rule(place=PLACES, kernel_pages=KERNEL_PAGES)
    def loads_normal(self, place: int, kernel_pages: int) -> None:
        self.loads("normal", None, place, kernel_pages)

    @rule(place=PLACES, kernel_pages=KERNEL_PAGES)
    def loads_crash(self, place: int, kernel_pages: int) -> None:
        self.loads("crash", None, place, kernel_pages)

    @rule(place=PLACES, kernel_pages=KERNEL_PAGES, panics=st.booleans())
    def loads_by_normal(self, place: int, kernel_pages: int, panics: bool) -> None:
        self.loads("by normal", None, place, kernel_pages)
        if panics and Slot.CRASH in self.held:
            self.laws_hold()
            self.panics()

    @rule(kind=st.sampled_from(KINDS), wrong=st.sampled_from(list(REFUSALS)), place=PLACES)
    def loads_wrongly(self, kind: str, wrong: str, place: int) -> None:
        self.loads(kind, wrong, place, 1)

    def loads(self, kind: str, wrong: str | None, place: int, kernel_pages: int) -> None:
        """A load replaces the image in the slot. A refusal keeps that, except that KEXEC_ON_CRASH
        has freed it at stage D."""
        image = self.image(kind, place, kernel_pages)
        if wrong:
            half = self.ram_pages() // 2
            table = fault(wrong, image.table, Path(self.folder.name), half)
            image = replace(image, table=table)
        slot = Slot.NORMAL if kind == "normal" else Slot.CRASH
        expected, reached_d = self.answer(slot, kind, wrong)
        if reached_d and kind == "crash":
            self.held.pop(slot, None)
        try:
            if kind == "by normal":
                load_bound(self.backend, image)
            else:
                self.backend.load(image.table)
        except KexecError as error:
            if error.code == "ENOMEM" and expected is None:
                assert self.is_short_of_memory(image.table)
            else:
                assert error.code == expected, error.message
        else:
            assert expected is None
            self.held[slot] = Held(kind, image.table, whole=kind != "crash")

    def image(self, kind: str, place: int, kernel_pages: int) -> CaptureImage:
        """A complete image; for `crash` one without low memory, which does not boot."""
        if kind == "crash":
            home = self.region or PhysRange.sized(4 * MIB, MIB)
            window = PhysRange(home.start + (16 + place) * PAGE, home.start + 40 * PAGE)
            return capture_image(
                window,
                (),
                flags=ON_CRASH,
                headers=PAGE,
                kernel_pages=kernel_pages,
                sealed=False,
            )
        window = PhysRange.sized(4 * MIB + place * 20 * PAGE, WINDOW_PAGES * PAGE)
        if kind == "normal":
            return capture_image(
                window,
                LOW,
                flags=NORMAL,
                headers=PAGE,
                kernel_pages=kernel_pages,
                cmdline="quiet",
                sealed=False,
            )
        return capture_image(window, LOW, headers=8 * PAGE, kernel_pages=kernel_pages)

    def answer(self, slot: Slot, kind: str, wrong: str | None) -> tuple[str | None, bool]:
        """The errno of a load (None if it succeeds), and whether it reached stage D."""
        if early := self.refused(slot):
            return early, False
        if kind == "by normal" and not self.swaps:
            return "EINVAL", False
        if wrong == "too many":
            return REFUSALS[wrong], False
        if self.gates.busy:
            return "EBUSY", False
        if kind == "crash" and not self.region:
            return "EADDRNOTAVAIL", True
        if kind == "crash" and wrong == "no memory":
            return "EADDRNOTAVAIL", True  # the big one is outside of the reservation
        return REFUSALS[wrong] if wrong else None, True

    def refused(self, slot: Slot) -> str | None:
        """Stages A1 to A4, with the limit that counts down in between."""
        gates = self.gates
        if not gates.cap_sys_boot or gates.kexec_load_disabled or not gates.limit(slot):
            return "EPERM"
        self.gates = gates.counted(slot)
        if gates.ima_appraise:
            return "EACCES"
        return "EPERM" if gates.lockdown is not Lockdown.NONE else None

    def ram_pages(self) -> int:
        """totalram."""
        reserved = self.region.size if self.region else 0
        return (self.start.memory_map.whole_page_ram(4096).size - reserved) // PAGE

    def is_short_of_memory(self, table: SegmentTable) -> bool:
        """Whether there are fewer free frames than the image has, plus some for lists and control
        pages."""
        return self.backend.show().free.size // PAGE < table.pages(PAGE) + 64

    @rule(slot=st.sampled_from(Slot))
    def unloads(self, slot: Slot) -> None:
        expected = self.refused(slot) or ("EBUSY" if self.gates.busy else None)
        if expected:
            with pytest.raises(KexecError) as caught:
                self.backend.unload(slot)
            assert caught.value.code == expected
            return
        self.backend.unload(slot)
        self.held.pop(slot, None)

    @rule(
        closed=st.sampled_from(GATES),
        limits=st.tuples(st.integers(-1, 3), st.integers(-1, 3)),
        kind=st.sampled_from(KINDS),
        place=PLACES,
    )
    def meets_a_closed_gate(
        self, closed: dict[str, object], limits: tuple[int, int], kind: str, place: int
    ) -> None:
        """Load, unload and load again; then the gate is opened."""
        panics, reboots = limits
        self.gates = Gates(
            kexec_load_limit_panic=panics,
            kexec_load_limit_reboot=reboots,
            **closed,  # type: ignore[arg-type]
        )
        self.backend.set_gates(self.gates)
        self.loads(kind, None, place, 1)
        self.unloads(Slot.NORMAL if kind == "normal" else Slot.CRASH)
        self.loads(kind, None, place, 2)
        self.laws_hold()
        self.gates = Gates()
        self.backend.set_gates(self.gates)

    @rule(
        kind=st.sampled_from(KINDS),
        wrong=st.sampled_from(list(REFUSALS)),
        other=st.sampled_from(KINDS),
        place=PLACES,
    )
    def loads_again_in_the_same_turn(self, kind: str, wrong: str, other: str, place: int) -> None:
        """Frames that were freed, or taken by a refused load, are available to the next."""
        with self.backend.turns.turn() as turn:
            self.unloads(Slot.CRASH)
            self.loads(kind, wrong, place, 1)
            self.loads(other, None, place, 1)
            assert turn.kernel.frames.of(IMAGE) == self.backend.show().images

    @rule(pages=st.sampled_from([0, 48, 64, 256]), bytes_more=st.sampled_from([0, 0, 0, 100]))
    def makes_a_region(self, pages: int, bytes_more: int) -> None:
        size = pages * PAGE + bytes_more
        free = self.backend.show().free
        try:
            found = self.backend.make_region(size)
        except KexecError as error:
            if not pages or bytes_more:
                assert error.code == "bad-region-size"
            elif self.region:
                assert error.code == "region-exists"
            else:
                assert error.code == "no-contiguous-memory"
                assert all(span.size < size for span in free)
            return
        assert not self.region
        assert found.span
        assert found.size == found.span.size == size
        assert free.covers(found.span)
        self.region, self.is_made = found.span, True
        pages_of_it = raw_pages(self.path, addresses(RangeSet((found.span,))))
        assert set(pages_of_it.values()) == {bytes(PAGE)}, "what was there before is in it"

    @rule()
    def releases_the_region(self) -> None:
        try:
            self.backend.release_region()
        except KexecError as error:
            if self.region is None:
                assert error.code == "no-region"
            elif not self.is_made:
                assert error.code == "region-exists"
            else:
                assert error.code == "region-in-use"
                assert Slot.CRASH in self.held
            return
        assert self.is_made
        assert Slot.CRASH not in self.held
        self.region, self.is_made = None, False

    @rule(left=st.sampled_from([0, 0, 48, 64, 1024]))
    def shrinks_the_region(self, left: int) -> None:
        """kexec_crash_size."""
        size = self.region.size if self.region else 0
        try:
            self.backend.set_crash_size(left * PAGE)
        except KexecError as error:
            expected = "ENOENT" if Slot.CRASH in self.held else "EINVAL"
            assert error.code == expected
            assert expected == "ENOENT" or left * PAGE > size
            return
        assert Slot.CRASH not in self.held
        assert left * PAGE <= size
        if self.region:
            self.region = PhysRange.sized(self.region.start, left * PAGE) if left else None
            self.is_made = self.is_made and left > 0

    @rule()
    def another_process_opens_it(self) -> None:
        self.backend = SimulatedBackend.open(self.path)

    @precondition(lambda self: Slot.CRASH in self.held)
    @rule()
    def panics(self) -> None:
        self.switches(Slot.CRASH, self.backend.crash)

    @precondition(lambda self: Slot.NORMAL in self.held)
    @rule()
    def reboots(self) -> None:
        self.switches(Slot.NORMAL, self.backend.exec)

    @precondition(lambda self: not self.held)
    @rule()
    def has_nothing_to_switch_to(self) -> None:
        self.switches(Slot.CRASH, self.backend.crash)
        self.switches(Slot.NORMAL, self.backend.exec)

    def switches(self, slot: Slot, way: Callable[[], object]) -> None:
        """A kernel that boots leaves nothing loaded; any other leaves everything unchanged."""
        held = self.held.get(slot)
        if held is None or not held.whole:
            before = (self.path / "ram").read_bytes()
            with pytest.raises(KexecError) as caught:
                way()
            assert caught.value.code == ("switch-failed" if held else "nothing-loaded")
            same = (self.path / "ram").read_bytes() == before
            assert same
            return
        (self.path / "vmcore").unlink(missing_ok=True)
        way()
        if held.kind == "by normal":
            assert not first_difference(self.contents, core_pages(self.path / "vmcore"))
        self.held.clear()
        if self.is_made:  # it ended with the kernel that had it
            self.region, self.is_made = None, False
        self.writes()

    @precondition(lambda self: self.swaps and self.held)
    @rule(data=st.data())
    def exchanges_twice(self, data: st.DataObject) -> None:
        """In a session that is discarded."""
        slot = data.draw(st.sampled_from(list(self.held)))
        with self.backend.folder.session(write=True) as session:
            image, ram = session.state.images[slot], session.ram
            pairs = image.page_list(ram).pairs
            pages = sorted({addr for pair in pairs for addr in pair})
            before = {page: ram.read(page, PAGE) for page in pages}
            for _ in range(2):
                relocate_kernel(image, ram, RelocateKernel.SWAP)
            again = {page: ram.read(page, PAGE) for page in pages}
        assert not first_difference(before, once(again))

    @invariant()
    def laws_hold(self) -> None:
        with self.backend.turns.reading() as (state, _):
            images = dict(state.images)
        memory = (self.path / "ram").read_bytes()
        assert set(images) == set(self.held)
        assert state.gates == self.gates
        self.every_frame_has_one_owner(memory, images.values())
        found = raw_pages(self.path, list(self.contents))
        assert not first_difference(self.contents, once(found)), "memory in use was touched"
        for slot, image in images.items():
            waits_unharmed(memory, image, self.held[slot].table)

    def every_frame_has_one_owner(self, memory: bytes, images: Iterable[KImage]) -> None:
        shown, start = self.backend.show(), self.start
        own = RangeSet((self.region,) if self.region else ())
        at_boot = RangeSet((start.reservation,) if start.reservation else ())
        assert shown.in_use == start.in_use
        assert shown.kernel == start.kernel
        assert shown.reservation == self.region
        frames = [frame for image in images for frame in frames_of(memory, image)]
        assert len(set(frames)) == len(frames), "a frame in two places"
        taken = RangeSet.of(PhysRange.sized(frame, PAGE) for frame in frames)
        assert shown.images == taken, "lost, or taken by nobody"
        assert shown.free == (start.free | at_boot) - own - taken


def frames_of(memory: bytes, image: KImage) -> list[int]:
    """All frames of an image; an image in the reservation holds none."""
    if image.head & 4:
        assert not image.parked
        return []
    pairs, lists = walk(memory, image.head)
    return [
        *(source for _, source in pairs),
        *lists,
        *addresses(image.control_pages),
        *addresses(image.parked),
    ]


def waits_unharmed(memory: bytes, image: KImage, table: SegmentTable) -> None:
    """Regardless of what was done to the other image meanwhile. Only contents given at the load are
    checked: headers are bound later."""
    wanted = [(part.mem + n, n, part.buf) for part in table.segments for n in pages(part)]
    if image.head & 4:
        where = {page: page for page, _, _ in wanted}
    else:
        where = dict(walk(memory, image.head)[0])
        assert list(where) == [page for page, _, _ in wanted], "each once, in order"
    for page, at, buf in wanted:
        if isinstance(buf, Built):
            expected = buf.data[at : at + PAGE].ljust(PAGE, b"\0")
            same = memory[where[page] : where[page] + PAGE] == expected
            assert same, f"the page for {page:#x} has changed since the load"


def pages(part: Segment) -> range:
    """Offsets in a segment."""
    return range(0, part.memsz, PAGE)


KexecSequences.TestCase.settings = settings(max_examples=25, stateful_step_count=25)
TestSequences = KexecSequences.TestCase
