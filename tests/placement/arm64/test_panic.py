"""Crash by normal on a panic, on arm64: planned for a captured guest, with assumed huge pages."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pykexec.abi.devicetree import DeviceTree, Node
from pykexec.abi.hugetlb import HUGE_PAGE_SIZE
from pykexec.backends.kernel.modes import mode_warnings
from pykexec.images.contents import Built, contents_bytes
from pykexec.images.kernel_image import KernelImage
from pykexec.machine import DeviceTreeFirmware, Machine, Unknown
from pykexec.memory.blocks import MOVABLE, MemoryBlock, MemoryBlocks
from pykexec.memory.ranges import KIB, MIB, PhysRange, RangeSet
from pykexec.placement.arm64.moved import WARN_CPUS, WARN_ITS
from pykexec.placement.bind import BoundPlan, bind
from pykexec.placement.granted import Granted
from pykexec.placement.lending import NoMovableMemory
from pykexec.placement.panic_modes import armed_table, plan_panic, staged_regions
from pykexec.placement.plan import PanicPlan
from pykexec.placement.request import ImageKind, LoadRequest, Mode
from pykexec.placement.reservation import NothingReserved
from pykexec.placement.role import Role
from pykexec.purgatory import Exchange, parse_tables
from pykexec.purgatory.arm64.stub import StubFlag, parse_params
from tests.placement.arm64.test_linux import chosen_of, image_of, machine
from tests.placement.test_panic_modes import NOTE

WINDOW_SIZE = 96 * MIB
BLOCK = 128 * MIB
PANIC_MODES = (Mode.IN_PLACE, Mode.STUB_SWAP, Mode.LENT)


def small_region() -> Machine:
    """The captured guest with 64 KiB reserved, and 256 MiB in ZONE_MOVABLE."""
    found = machine()
    assert found.crash_kernel
    start = found.crash_kernel.ranges[0].start
    return replace(
        found,
        crash_kernel=RangeSet((PhysRange.sized(start, 64 * KIB),)),
        memory_blocks=MemoryBlocks(
            BLOCK,
            tuple(
                MemoryBlock(number, BLOCK, zones=(MOVABLE if number in (12, 13) else "DMA",))
                for number in range(8, 16)
            ),
        ),
        balloons=(),
    )


@pytest.fixture
def image(tmp_path: Path) -> KernelImage:
    return image_of(tmp_path, image_size=8 * MIB)


def panic_plan(image: KernelImage, mode: Mode) -> PanicPlan:
    request = LoadRequest(
        kind=ImageKind.CRASH_BY_NORMAL,
        mode=mode,
        crash_size=WINDOW_SIZE,
        initrd=Built(b"i" * 3_000_001),
        append=("quiet",),
    )
    return plan_panic(image, small_region(), request, Granted())


def bound_plan(plan: PanicPlan) -> BoundPlan:
    return bind(plan, small_region(), plan.stage.exchanges(RangeSet()), NOTE, plan.stage.left_out)


@pytest.mark.parametrize("mode", PANIC_MODES)
def test_the_headers_are_in_the_window_as_the_device_tree_says(
    image: KernelImage, mode: Mode
) -> None:
    plan = panic_plan(image, mode)
    assert plan.window.covers(plan.headers)
    chosen = chosen_of(plan)
    headers, usable = chosen.get("linux,elfcorehdr"), chosen.get("linux,usable-memory-range")
    assert headers == plan.headers.start.to_bytes(8, "big") + plan.headers.size.to_bytes(8, "big")
    assert usable == plan.window.start.to_bytes(8, "big") + plan.window.size.to_bytes(8, "big")
    assert not any(item.range.overlaps(plan.headers) for item in plan if item.contents)


class HeldPages:
    """The memory of a stage, by huge pages; what is written elsewhere raises KeyError."""

    def __init__(self, pages: Iterable[int]) -> None:
        self.pages = {at: bytearray(HUGE_PAGE_SIZE) for at in pages}

    def pieces(self, at: int, size: int) -> Iterator[tuple[bytearray, int, int]]:
        while size:
            page = at // HUGE_PAGE_SIZE * HUGE_PAGE_SIZE
            part = min(size, page + HUGE_PAGE_SIZE - at)
            yield self.pages[page], at - page, part
            at, size = at + part, size - part

    def write(self, at: int, data: bytes | memoryview) -> None:
        done = 0
        for page, offset, size in self.pieces(at, len(data)):
            page[offset : offset + size] = data[done : done + size]
            done += size

    def read(self, at: int, size: int) -> bytes:
        return b"".join(
            page[offset : offset + part] for page, offset, part in self.pieces(at, size)
        )

    def exchange(self, item: Exchange) -> None:
        """The old contents of the window are no part of this."""
        for done in range(0, item.size, HUGE_PAGE_SIZE):
            self.pages[item.dest + done] = self.pages.pop(item.source + done)


@pytest.mark.parametrize("mode", PANIC_MODES)
def test_after_the_exchange_everything_is_in_its_place(image: KernelImage, mode: Mode) -> None:
    plan = panic_plan(image, mode)
    bound = bound_plan(plan)
    window = range(plan.window.start, plan.window.end, HUGE_PAGE_SIZE)
    held = HeldPages(plan.stage.image or window)
    regions = tuple(staged_regions(bound, held.write))
    for region in regions:
        assert hashlib.sha256(held.read(region.addr, region.size)).digest() == region.sha256

    (segment,) = armed_table(bound, small_region(), regions).segments
    stub = contents_bytes(segment.buf, 1 << 20)  # type: ignore[arg-type]
    params = parse_params(stub)
    tables = stub[params.tables - segment.mem :]
    told, exchanges = parse_tables(tables, params.n_regions, params.n_exchanges)
    assert told == regions
    for exchange in exchanges:
        held.exchange(exchange)

    loaded = [(item.range.start, item.contents) for item in plan if item.contents]
    for at, contents in (*loaded, (plan.headers.start, Built(bound.headers))):
        expected = contents_bytes(contents, 1 << 30)
        assert held.read(at, len(expected)) == expected, hex(at)
    assert (params.entry, params.dtb) == (plan.boot.entry, plan.boot.information.start)
    assert (params.window, params.window_size) == (plan.window.start, plan.window.size)
    again = StubFlag.NONE if mode is Mode.IN_PLACE else StubFlag.IN_USE
    assert params.flags == StubFlag.RESET_HVC | again
    for region in regions:  # as the stub finds it for the second check
        inside = [item for item in exchanges if region.range.overlaps(item.source_range)]
        moved = region.addr + sum(item.dest - item.source for item in inside)
        assert all(item.source_range.covers(region.range) for item in inside)
        assert hashlib.sha256(held.read(moved, region.size)).digest() == region.sha256


@pytest.mark.parametrize("mode", PANIC_MODES)
def test_no_huge_page_is_needed_beside_those_of_the_window(image: KernelImage, mode: Mode) -> None:
    plan = panic_plan(image, mode)
    limits_pages = plan.stage.ours.size // HUGE_PAGE_SIZE
    if mode is Mode.LENT:
        loaded = sum(item.contents.size for item in plan if item.contents)
        assert limits_pages * HUGE_PAGE_SIZE < loaded + 10 * MIB
        assert plan.stage.lent.size == WINDOW_SIZE - plan.stage.ours.size
    else:
        assert limits_pages == WINDOW_SIZE // HUGE_PAGE_SIZE


def test_the_wait_is_by_the_counter(image: KernelImage) -> None:
    plan = panic_plan(image, Mode.LENT)
    assert (plan.settle.seconds, plan.settle.clock) == (10, "counter")
    assert str(plan.settle) == "10 s before anything is moved, by the counter of the processor"


@pytest.mark.parametrize("mode", PANIC_MODES)
def test_nobody_sleeps_in_the_window(image: KernelImage, mode: Mode) -> None:
    """The firmware has switched the other CPUs off."""
    output = (*panic_plan(image, mode).warnings, *mode_warnings(mode, small_region()))
    assert not any("sleep" in line or "halt" in line or "640 KiB" in line for line in output)


@pytest.mark.parametrize(
    ("cmdline", "release", "cpus", "warned"),
    [
        ("quiet", "6.12.95", 2, True),
        (Unknown("hidden"), "6.12.95", 2, True),
        ("quiet irqchip.gicv3_pseudo_nmi=1", "6.7-rc1", 2, False),
        ("quiet irqchip.gicv3_pseudo_nmi=1", "6.6.9", 2, True),
        ("quiet irqchip.gicv3_pseudo_nmi=1", Unknown("hidden"), 2, True),
        ("quiet irqchip.gicv3_pseudo_nmi=0", "6.12.95", 2, True),
        ("quiet", "6.1.0", 1, False),
    ],
)
def test_a_cpu_may_go_on_where_memory_is_moved(
    cmdline: str | Unknown, release: str | Unknown, cpus: int, warned: bool
) -> None:
    found = small_region()
    assert not isinstance(found.cpus, Unknown)
    on = replace(found, cmdline=cmdline, release=release, cpus=(found.cpus * 2)[:cpus])
    assert (WARN_CPUS in mode_warnings(Mode.STUB_SWAP, on)) is warned
    assert WARN_CPUS not in mode_warnings(Mode.IN_PLACE, on)
    assert WARN_CPUS not in mode_warnings(Mode.LENT, on, movable=True)


@pytest.mark.parametrize(
    ("compatible", "efi", "warned"),
    [
        (b"arm,gic-v3-its\0", False, True),
        (b"vendor,its\0arm,gic-v3-its\0", False, True),
        (b"arm,gic-v3-its\0", True, False),
        (b"arm,gic-v3\0", False, False),
    ],
)
def test_tables_of_the_interrupt_controller_may_be_moved(
    compatible: bytes, efi: bool, warned: bool
) -> None:
    its = Node("msi-controller@8080000", (("compatible", compatible),))
    root = Node("", (), (Node("intc@8000000", (), (its,)),))
    firmware = DeviceTreeFirmware(
        tree=DeviceTree(root).encode(),
        acpi=False,
        efi=machine("virt-efi").firmware.efi if efi else None,
    )
    output = mode_warnings(Mode.STUB_SWAP, replace(small_region(), firmware=firmware))
    assert (WARN_ITS in output) is warned


def test_memory_that_was_there_at_boot_cannot_be_lent(image: KernelImage) -> None:
    blocks = MemoryBlocks(
        BLOCK, tuple(MemoryBlock(number, BLOCK, zones=("DMA",)) for number in range(8, 16))
    )
    request = LoadRequest(kind=ImageKind.CRASH_BY_NORMAL, mode=Mode.LENT, crash_size=BLOCK)
    on = replace(small_region(), memory_blocks=blocks)
    with pytest.raises(NoMovableMemory, match="there since boot") as caught:
        plan_panic(image, on, request, Granted())
    assert "movablecore" in str(caught.value.remedy)


def test_a_panic_needs_a_region(image: KernelImage) -> None:
    request = LoadRequest(kind=ImageKind.CRASH_BY_NORMAL, mode=Mode.IN_PLACE)
    with pytest.raises(NothingReserved):
        plan_panic(image, replace(small_region(), crash_kernel=RangeSet()), request, Granted())


def test_the_stub_ends_with_the_region(image: KernelImage) -> None:
    plan = panic_plan(image, Mode.STUB_SWAP)
    stub = plan.first(Role.PURGATORY)
    region = small_region().crash_kernel
    assert stub
    assert region
    assert stub.range.end == region.ranges[0].end
    assert plan.entry == stub.range.start
