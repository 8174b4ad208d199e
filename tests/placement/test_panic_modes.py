"""In-place and stub-swap: what is staged where, what the stub gets, and refusals."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from pykexec.abi.kexec import KexecFlag
from pykexec.arch import X86_64
from pykexec.backends.kernel.stage_plan import places_in_place
from pykexec.crash.armed_note import ArmedNote, armed_note
from pykexec.crash.notes import VMCOREINFO, Note, parse_notes
from pykexec.errors import NotSupported
from pykexec.images.contents import Built
from pykexec.images.identify import identify
from pykexec.images.kernel_image import KernelImage
from pykexec.machine import Iommus, Machine, Modules, Sysctls, Unknown, known
from pykexec.memory.map import MemoryMap, RangeType
from pykexec.memory.ranges import PhysRange, RangeSet
from pykexec.placement.bind import BoundPlan, HeadersTooLong, bind
from pykexec.placement.granted import Granted
from pykexec.placement.kernel_rules import check_plan
from pykexec.placement.panic_modes import (
    SLEEPERS,
    SLEEPERS_TEXT,
    ReservationTooSmall,
    armed_table,
    staged_regions,
)
from pykexec.placement.plan import PanicPlan, segment_table
from pykexec.placement.plan_load import plan_load
from pykexec.placement.request import ImageKind, LoadRequest, Mode
from pykexec.placement.reservation import RegionInTheWay
from pykexec.placement.stage import StagedPiece, StageFrames, staged_pieces
from pykexec.placement.window import WindowRefused
from pykexec.placement.x86.layout import limits_of
from pykexec.purgatory import SEAL_SIZE, Exchange, StubParams, parse_params, parse_tables
from tests.builders import KIB, MIB, make_bzimage, make_machine, pc_map, write
from tests.placement import names

HUGE = 2 * MIB
REGION = PhysRange.sized(0x38000000, 64 * KIB)
WINDOW = PhysRange.sized(0x20000000, 128 * MIB)
LOW_PAGE, HEADERS_PAGE = PhysRange.sized(0x10000000, HUGE), PhysRange.sized(0x10200000, HUGE)
SCATTERED = tuple(0x28000000 + 2 * n * HUGE for n in range(64))
"""Every other huge page: no two of them are adjacent."""
IN_PLACE = StageFrames(WINDOW, LOW_PAGE, HEADERS_PAGE)
SWAP = StageFrames(WINDOW, LOW_PAGE, HEADERS_PAGE, SCATTERED)
PAYLOAD = bytes(range(256)) * 0x6000
INITRD = bytes(reversed(range(256))) * 0x5000 + b"end"
NOTE = Note(VMCOREINFO, 0, b"OSRELEASE=6.1\n").encoded


@pytest.fixture
def kernel(tmp_path: Path) -> KernelImage:
    return identify(write(tmp_path, "vmlinuz", make_bzimage(PAYLOAD, init_size=0x3378000)))


def machine(size: int = 64 * KIB, panic: int = 10) -> Machine:
    region = PhysRange.sized(REGION.start, size)
    return replace(make_machine(crash_kernel=[region]), sysctls=Sysctls(panic=panic))


def planned(kernel: KernelImage, stage: StageFrames | None, mode: Mode) -> PanicPlan:
    request = LoadRequest(kind=ImageKind.CRASH_BY_NORMAL, mode=mode, initrd=Built(INITRD))
    return panic_plan(kernel, machine(), request, stage)


def panic_plan(
    kernel: KernelImage, on: Machine, request: LoadRequest, stage: StageFrames | None
) -> PanicPlan:
    plan = plan_load(kernel, on, request, Granted(request.mode, stage=stage))
    assert isinstance(plan, PanicPlan)
    return plan


def bound(kernel: KernelImage, stage: StageFrames, mode: Mode) -> BoundPlan:
    plan = planned(kernel, stage, mode)
    exchanges = stage.exchanges(limits_of(X86_64).low_ram(pc_map(), 4096))
    return bind(plan, machine(), exchanges, NOTE, stage.ours)


@pytest.mark.parametrize("mode", [Mode.IN_PLACE, Mode.STUB_SWAP])
def test_a_chosen_window_spares_the_stacks_of_sleeping_cpus(
    kernel: KernelImage, mode: Mode
) -> None:
    request = LoadRequest(kind=ImageKind.CRASH_BY_NORMAL, mode=mode, crash_size=128 * MIB)
    unaware = replace(machine(), per_cpu=RangeSet())
    favourite = plan_load(kernel, unaware, request).window
    assert favourite
    stack = RangeSet((PhysRange.sized(favourite.end - 64 * KIB, 16 * KIB),))
    aware = plan_load(kernel, replace(unaware, per_cpu=stack), request)
    assert aware.window
    assert not stack.overlaps(aware.window)
    assert aware.window.size == favourite.size
    assert "sleep" not in " ".join(aware.warnings)


@pytest.mark.parametrize("mode", [Mode.IN_PLACE, Mode.STUB_SWAP])
def test_a_stub_that_would_exchange_itself_is_refused(kernel: KernelImage, mode: Mode) -> None:
    on = make_machine(crash_kernel=[PhysRange.sized(512 * KIB, 64 * KIB)])
    with pytest.raises(RegionInTheWay, match="is in memory that the stub exchanges"):
        plan_load(kernel, on, LoadRequest(kind=ImageKind.CRASH_BY_NORMAL, mode=mode))


def test_stub_swap_warns_of_what_it_cannot_spare(kernel: KernelImage) -> None:
    request = LoadRequest(kind=ImageKind.CRASH_BY_NORMAL, mode=Mode.STUB_SWAP)
    stack = RangeSet((PhysRange.sized(WINDOW.start, 16 * KIB),))
    on_it = panic_plan(kernel, replace(machine(), per_cpu=stack), request, SWAP)
    assert f"{SLEEPERS} lie in the window" in on_it.warnings
    unaware = replace(machine(), per_cpu=Unknown("no kallsyms"))
    unknown = panic_plan(kernel, unaware, request, SWAP)
    assert f"{SLEEPERS} may lie in the window: unknown: no kallsyms" in unknown.warnings
    text = RangeSet((PhysRange.sized(WINDOW.end - 64 * KIB, 16 * KIB),))
    in_text = panic_plan(kernel, replace(machine(), kernel_image=text), request, SWAP)
    assert f"{SLEEPERS_TEXT} lies in the window" in in_text.warnings
    in_place = panic_plan(kernel, machine(), replace(request, mode=Mode.IN_PLACE), IN_PLACE)
    assert not [text for text in in_place.warnings if "sleep" in text]


@pytest.mark.parametrize("part", ["reserved", "tables"])
def test_a_window_keeps_off_the_memory_of_an_iommu(kernel: KernelImage, part: str) -> None:
    request = LoadRequest(kind=ImageKind.CRASH_BY_NORMAL, mode=Mode.STUB_SWAP, crash_size=128 * MIB)
    favourite = plan_load(kernel, machine(), request).window
    assert favourite
    used = RangeSet((PhysRange.sized(favourite.start + 64 * MIB, 4 * KIB),))
    reserved, tables = (used if part == name else RangeSet() for name in ("reserved", "tables"))
    aware = replace(machine(), iommus=Iommus(("dmar0",), reserved, tables, None))
    window = plan_load(kernel, aware, request).window
    assert window
    assert not used.overlaps(window)
    asked = replace(request, mem_min=favourite.start, mem_max=favourite.end - 1, crash_size=None)
    with pytest.raises(WindowRefused, match="memory that an IOMMU uses"):
        plan_load(kernel, aware, asked)
    in_place = replace(asked, mode=Mode.IN_PLACE)
    assert plan_load(kernel, aware, in_place).window == favourite


def test_a_window_on_the_stubs_own_memory_is_refused(kernel: KernelImage) -> None:
    size = 128 * MIB
    for start, refused in ((REGION.start - size, False), (REGION.start - size + 2 * MIB, True)):
        request = LoadRequest(
            kind=ImageKind.CRASH_BY_NORMAL,
            mode=Mode.STUB_SWAP,
            mem_min=start,
            mem_max=start + size - 1,
        )
        if refused:
            with pytest.raises(WindowRefused, match="overlaps the crash region"):
                plan_load(kernel, machine(), request)
        else:
            assert plan_load(kernel, machine(), request).window == PhysRange.sized(start, size)


def staged_memory(plan: BoundPlan) -> dict[int, bytes]:
    """What a backend would write: page address to its bytes."""
    memory: dict[int, bytearray] = {}
    for item in plan.plan.placed:
        if not item.contents:
            continue
        data = b"".join(item.contents.chunks())
        span, done = PhysRange.sized(item.range.start, len(data)), 0
        for piece in staged_pieces(span, plan.backup_map):
            page, offset = piece.source // HUGE, piece.source % HUGE
            held = memory.setdefault(page, bytearray(HUGE))
            held[offset : offset + piece.size] = data[done : done + piece.size]
            done += piece.size
    return {page * HUGE: bytes(data) for page, data in memory.items()}


@pytest.mark.parametrize(("stage", "mode"), [(IN_PLACE, Mode.IN_PLACE), (SWAP, Mode.STUB_SWAP)])
def test_the_kernel_is_given_the_stub_and_nothing_else(
    kernel: KernelImage, stage: StageFrames, mode: Mode
) -> None:
    plan = planned(kernel, stage, mode)
    table = segment_table(plan)
    assert [item.name for item in table.segments] == [names.PURGATORY]
    assert REGION.covers(table.segments[0].range)
    assert table.entry == table.segments[0].mem
    assert plan.flags == KexecFlag.KEXEC_ON_CRASH
    assert all(check.ok for check in check_plan(plan, machine()))
    assert plan.next_map.of_type(RangeType.RAM) == RangeSet.of([PhysRange(0x1000, 0x9F000), WINDOW])
    assert f"elfcorehdr={HEADERS_PAGE.start:#x} " in str(plan.cmdline)


def test_in_place_exchanges_only_the_low_pages(kernel: KernelImage) -> None:
    armed = bound(kernel, IN_PLACE, Mode.IN_PLACE)
    raw, params = stub(armed)
    regions, exchanges = parse_tables(raw, params.n_regions, params.n_exchanges)
    assert exchanges == (Exchange(0x1000, LOW_PAGE.start + 0x1000, 0x9E000),)
    kernel_at = armed.plan.named(names.KERNEL)
    assert kernel_at is not None
    assert [r.sha256 for r in regions if r.addr == kernel_at.range.start] == [
        hashlib.sha256(PAYLOAD).digest()
    ]


def nowhere(addr: int, data: object) -> None:
    """The bytes of a stage that is not written."""


def stub(armed: BoundPlan) -> tuple[bytes, StubParams]:
    (segment,) = armed_table(armed, machine(), tuple(staged_regions(armed, nowhere))).segments
    assert segment.buf is not None
    raw = b"".join(segment.buf.chunks())
    params = parse_params(raw)
    assert params.reset_seconds == 10
    assert params.serial_port == armed.plan.console.port == 0x3F8
    return raw[params.tables - segment.mem :], params


@pytest.mark.parametrize(("panic", "seconds"), [(0, 0), (30, 30), (-1, 1)])
def test_a_stub_that_refuses_resets_when_the_kernel_would(
    kernel: KernelImage, panic: int, seconds: int
) -> None:
    armed = bound(kernel, SWAP, Mode.STUB_SWAP)
    (segment,) = armed_table(armed, machine(panic=panic), ()).segments
    assert segment.buf is not None
    assert parse_params(b"".join(segment.buf.chunks())).reset_seconds == seconds


def test_the_stub_digests_the_stage_where_it_waits(kernel: KernelImage) -> None:
    armed = bound(kernel, SWAP, Mode.STUB_SWAP)
    raw, params = stub(armed)
    regions, exchanges = parse_tables(raw, params.n_regions, params.n_exchanges)
    memory = staged_memory(armed)
    headers = [region for region in regions if region.addr == HEADERS_PAGE.start]
    assert [region.sha256 for region in headers] == [hashlib.sha256(armed.headers).digest()]
    checked = 0
    for region in regions:
        if region.addr == HEADERS_PAGE.start:
            continue
        offset = region.addr % HUGE
        data = memory[region.addr - offset][offset : offset + region.size]
        assert hashlib.sha256(data).digest() == region.sha256
        checked += region.size
    assert checked == sum(item.contents.size for item in armed.plan if item.contents)
    assert len(exchanges) == 1 + len(SCATTERED)


def test_the_dump_shows_the_window_and_not_the_stage(kernel: KernelImage) -> None:
    armed = bound(kernel, SWAP, Mode.STUB_SWAP)
    loads = list(ELFFile(io.BytesIO(armed.headers)).iter_segments("PT_LOAD"))
    shown = RangeSet.of(PhysRange.sized(s["p_paddr"], s["p_memsz"]) for s in loads)
    ours = RangeSet.of([*SWAP.ours, REGION])
    assert shown == pc_map().whole_page_ram(4096) - ours
    assert sum(s["p_memsz"] for s in loads) == shown.size, "each page once"
    where = {s["p_paddr"]: s["p_offset"] for s in loads}
    assert where[WINDOW.start] == SCATTERED[0]


@pytest.mark.parametrize(("stage", "mode"), [(IN_PLACE, Mode.IN_PLACE), (SWAP, Mode.STUB_SWAP)])
def test_ram_that_a_driver_added_is_in_the_dump_and_nowhere_else(
    kernel: KernelImage, stage: StageFrames, mode: Mode
) -> None:
    """And a huge page in it is as good as any other."""
    added = PhysRange.sized(8 << 30, 256 * MIB)
    stage = replace(stage, headers=PhysRange.sized(added.start + 4 * HUGE, HUGE))
    on = replace(machine(), memory_map=MemoryMap.of(pc_map().ranges, RangeSet((added,))))
    request = LoadRequest(kind=ImageKind.CRASH_BY_NORMAL, mode=mode)
    plan = panic_plan(kernel, on, request, stage)
    assert all(check.ok for check in check_plan(plan, on))
    assert plan.next_map.of_type(RangeType.RAM).ranges[-1] == WINDOW
    armed = bind(
        plan, on, stage.exchanges(limits_of(X86_64).low_ram(pc_map(), 4096)), NOTE, stage.ours
    )
    loads = ELFFile(io.BytesIO(armed.headers)).iter_segments("PT_LOAD")
    shown = RangeSet.of(PhysRange.sized(s["p_paddr"], s["p_memsz"]) for s in loads)
    assert stage.headers
    assert shown.within(added) == RangeSet((added,)).without(stage.headers)
    assert places_in_place(LoadRequest(mem_min=4 << 30), on) == (
        PhysRange(4 << 30, added.start),
        PhysRange(added.end, 1 << 46),
    )


@pytest.mark.parametrize(("stage", "mode"), [(IN_PLACE, Mode.IN_PLACE), (SWAP, Mode.STUB_SWAP)])
def test_the_headers_have_a_note_of_how_it_was_armed(
    kernel: KernelImage, stage: StageFrames, mode: Mode
) -> None:
    armed = bound(kernel, stage, mode)
    segments = list(ELFFile(io.BytesIO(armed.headers)).iter_segments("PT_NOTE"))
    assert len(segments) == 1 + sum(1 for _ in known(machine().cpus, "")) + 1
    at = segments[-1]["p_offset"] - armed.headers_at.start
    notes = list(parse_notes(armed.headers[at : at + segments[-1]["p_filesz"]]))
    window = armed.plan.window
    assert window
    assert [armed_note(note.desc) for note in notes if note.name == b"PYKEXEC"] == [
        ArmedNote(mode.value, (window.start, window.end), 0, 0)
    ]


def test_in_place_leaves_its_own_window_out(kernel: KernelImage) -> None:
    armed = bound(kernel, IN_PLACE, Mode.IN_PLACE)
    loads = ELFFile(io.BytesIO(armed.headers)).iter_segments("PT_LOAD")
    shown = RangeSet.of(PhysRange.sized(s["p_paddr"], s["p_memsz"]) for s in loads)
    assert not shown.overlaps(WINDOW)
    assert shown.covers(PhysRange(0x1000, 0x9F000))


@pytest.mark.parametrize(
    ("asked", "tsc", "told"),
    [
        (None, 2_400_000, (0, 2_400_000)),
        (0, 2_400_000, (0, 2_400_000)),
        (7, 2_400_000, (7, 2_400_000)),
        (7, Unknown("no kallsyms"), (7, 0)),
    ],
)
def test_the_stub_is_told_how_long_to_wait_and_by_which_clock(
    kernel: KernelImage, asked: int | None, tsc: int | Unknown, told: tuple[int, int]
) -> None:
    on = replace(machine(), tsc_khz=tsc)
    request = LoadRequest(kind=ImageKind.CRASH_BY_NORMAL, mode=Mode.STUB_SWAP, settle=asked)
    plan = panic_plan(kernel, on, request, SWAP)
    table = armed_table(bind(plan, on, SWAP.exchanges(RangeSet()), NOTE, SWAP.ours), on, ())
    stub = parse_params(b"".join(table.segments[0].buf.chunks()))  # type: ignore[union-attr]
    assert (stub.settle_seconds, stub.tsc_khz) == told
    assert plan.settle.clock == ("tsc" if told[1] else "timer")


def test_a_dry_run_assumes_a_stage(kernel: KernelImage) -> None:
    plan = planned(kernel, None, Mode.STUB_SWAP)
    assert not plan.stage.ours.overlaps(plan.window)
    assert len(plan.stage.image) == plan.window.size // HUGE


def test_a_reservation_that_is_too_small_says_how_much(kernel: KernelImage) -> None:
    request = LoadRequest(kind=ImageKind.CRASH_BY_NORMAL, mode=Mode.IN_PLACE)
    with pytest.raises(ReservationTooSmall) as caught:
        panic_plan(kernel, machine(16 * KIB), request, IN_PLACE)
    assert caught.value.message == (
        "the crash region has 16 KiB, but the stub and the kernel's own pages need 36 "
        "KiB on this machine"
    )
    assert caught.value.hint == "boot with crashkernel=64K"
    made = replace(machine(16 * KIB), modules=Modules(region_inserted=True))
    with pytest.raises(ReservationTooSmall) as caught:
        panic_plan(kernel, made, request, IN_PLACE)
    assert caught.value.hint == "run pykexec region release, then pykexec region make 64K"


def test_a_region_of_just_that_size_is_enough(kernel: KernelImage) -> None:
    request = LoadRequest(kind=ImageKind.CRASH_BY_NORMAL, mode=Mode.IN_PLACE)
    assert plan_load(kernel, machine(36 * KIB), request).entry == REGION.start + 36 * KIB - 12 * KIB
    with pytest.raises(ReservationTooSmall):
        plan_load(kernel, machine(32 * KIB), request)


def test_the_headers_fill_their_room_with_the_seal_and_no_more(kernel: KernelImage) -> None:
    size = len(bound(kernel, IN_PLACE, Mode.IN_PLACE).headers)
    for room in (size + SEAL_SIZE, size + SEAL_SIZE - 1):
        stage = replace(IN_PLACE, headers=PhysRange.sized(HEADERS_PAGE.start, room))
        if room < size + SEAL_SIZE:
            with pytest.raises(HeadersTooLong):
                bound(kernel, stage, Mode.IN_PLACE)
        else:
            assert len(bound(kernel, stage, Mode.IN_PLACE).sealed) == room


def test_the_stub_has_room_for_a_stage_of_single_pages(kernel: KernelImage) -> None:
    """Adjacent pages need fewer exchanges, but the same space: so a dry run, which assumes them,
    reports what the load will need."""
    adjacent = replace(SWAP, image=tuple(0x28000000 + n * HUGE for n in range(64)))
    assert len(adjacent.exchanges(RangeSet())) == 1
    stubs = [
        planned(kernel, stage, Mode.STUB_SWAP).named(names.PURGATORY) for stage in (adjacent, SWAP)
    ]
    assert stubs[0] == stubs[1]


def test_pieces_follow_the_exchanges() -> None:
    backup = SWAP.exchanges(RangeSet())
    span = PhysRange(WINDOW.start + HUGE - 0x1000, WINDOW.start + HUGE + 0x1000)
    assert list(staged_pieces(span, backup)) == [
        StagedPiece(span.start, SCATTERED[0] + HUGE - 0x1000, 0x1000),
        StagedPiece(WINDOW.start + HUGE, SCATTERED[1], 0x1000),
    ]
    behind = PhysRange(WINDOW.end - 0x1000, WINDOW.end + 1)
    assert list(staged_pieces(behind, backup)) == [
        StagedPiece(behind.start, SCATTERED[-1] + HUGE - 0x1000, 0x1000),
        StagedPiece(WINDOW.end, WINDOW.end, 1),
    ]
    outside = PhysRange(WINDOW.start - 0x1000, WINDOW.start + 0x1000)
    assert list(staged_pieces(outside, backup)) == [
        StagedPiece(outside.start, outside.start, 0x1000),
        StagedPiece(WINDOW.start, SCATTERED[0], 0x1000),
    ]


def test_headers_need_the_architecture(kernel: KernelImage) -> None:
    """The ELF machine of another one would make a dump that no tool reads."""
    on = machine()
    request = LoadRequest(kind=ImageKind.CRASH_BY_NORMAL, mode=Mode.IN_PLACE)
    plan = panic_plan(kernel, on, request, IN_PLACE)
    low = limits_of(X86_64).low_ram(pc_map(), 4096)
    other = replace(on, architecture=Unknown("not read"))
    with pytest.raises(NotSupported, match="the architecture of test is unknown"):
        bind(plan, other, IN_PLACE.exchanges(low), NOTE, IN_PLACE.ours)
