"""Complete plans: the places of kexec-tools, and what a crash by normal adds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pykexec.abi.kexec import KexecFlag
from pykexec.cli.terms import PYKEXEC
from pykexec.errors import DoesNotFit, NotSupported, UsageError
from pykexec.images.contents import Built
from pykexec.images.identify import identify
from pykexec.images.kernel_image import KernelImage, LinuxX86Boot
from pykexec.machine import Unknown
from pykexec.memory.map import MemoryMap, RangeType
from pykexec.memory.ranges import PhysRange, RangeSet
from pykexec.placement.fill import TooManySegments, fold
from pykexec.placement.kernel_rules import check_plan
from pykexec.placement.plan import Placed, SwitchPlan, segment_table
from pykexec.placement.plan_load import plan_load
from pykexec.placement.request import ImageKind, LoadRequest, Mode
from pykexec.placement.role import Role
from pykexec.placement.window import WindowRefused
from pykexec.placement.x86.linux64 import check_window
from pykexec.purgatory import parse_params, parse_tables
from tests.builders import GIB, MIB, make_bzimage, make_machine, pc_map, ram, reserved, write
from tests.placement import names

CRASH = ImageKind.CRASH_BY_NORMAL
P = 0x1000


@pytest.fixture
def kernel(tmp_path: Path) -> KernelImage:
    """init_size, alignment and payload of Debian's 6.1 cloud kernel, as far as a plan needs
    them."""
    image = make_bzimage(bytes(0x10000), init_size=0x3378000)
    return identify(write(tmp_path, "vmlinuz", image))


ORACLE_MAP = MemoryMap.of(
    [
        *ram((0, 0x9FC00), (MIB, 0x7FFE0000), (4 * GIB, 6 * GIB)),
        *reserved((0x9FC00, 0xA0000), (0xF0000, MIB), (0x7FFE0000, 2 * GIB)),
    ]
)


def test_a_normal_load_is_placed_as_kexec_tools_does(kernel: KernelImage) -> None:
    """The golden vector `-c -l` + initrd; only the purgatory's size differs, which does not affect
    what is aligned to 2 MiB below it."""
    request = LoadRequest(initrd=Built(bytes(0x300001)), append=("root=/dev/vda1 ro",))
    plan = plan_load(kernel, make_machine(ORACLE_MAP), request)
    at = {item.name: item.range for item in plan}
    assert at[names.INITRD] == PhysRange.sized(0x17C8FF000, 0x301000)
    assert at[names.KERNEL] == PhysRange.sized(0x17CC00000, 0x3378000)
    assert at[names.PURGATORY].end == 6 * GIB
    assert at[names.BOOT_PARAMS].end == at[names.PURGATORY].start
    assert plan.entry == at[names.PURGATORY].start
    assert all(check.ok for check in check_plan(plan, make_machine(ORACLE_MAP)))


def crash_plan(kernel: KernelImage, **wishes: object) -> SwitchPlan:
    request = LoadRequest(kind=CRASH, initrd=Built(bytes(0x100001)))
    plan = plan_load(kernel, make_machine(), replace(request, **wishes))  # type: ignore[arg-type]
    assert isinstance(plan, SwitchPlan)
    return plan


def test_memory_that_no_segment_may_end_in_is_not_chosen(kernel: KernelImage) -> None:
    """KEXEC_DESTINATION_MEMORY_LIMIT; the next kernel still gets that memory in its map."""
    far = PhysRange((1 << 46) - MIB, (1 << 46) + GIB)
    machine = make_machine(MemoryMap.of([*pc_map().ranges, *ram((far.start, far.end))]))
    for request in (LoadRequest(), LoadRequest(mem_max=(1 << 64) - 1), LoadRequest(kind=CRASH)):
        plan = plan_load(kernel, machine, request)
        assert all(check.ok for check in check_plan(plan, machine))
    assert plan_load(kernel, machine, LoadRequest()).next_map.ram.covers(far)


@pytest.mark.parametrize("low", [0, 0x1000, 0x50000, 0x9F000])
def test_a_window_from_low_memory_on_has_each_page_once(kernel: KernelImage, low: int) -> None:
    plan = crash_plan(kernel, mem_min=low, mem_max=0x17FFFFFF)
    covered = RangeSet.of(item.range for item in plan)
    assert covered.ranges == (PhysRange(0x1000, 0x9F000), PhysRange(MIB, 0x18000000))
    assert plan.next_map.ram == covered.without(plan.headers)
    assert all(check.ok for check in check_plan(plan, make_machine()))


def test_the_segments_tile_window_and_low_memory(kernel: KernelImage) -> None:
    plan = crash_plan(kernel, mem_min=0x20000000, mem_max=0x27FFFFFF)
    covered = RangeSet.of(item.range for item in plan)
    assert covered.ranges == (PhysRange(0x1000, 0x9F000), PhysRange(0x20000000, 0x28000000))
    assert sum(item.range.size for item in plan) == covered.size, "no two overlap"
    assert plan.flags == KexecFlag.KEXEC_CRASH_BY_NORMAL
    assert plan.mode is Mode.FLAG
    assert all(check.ok for check in check_plan(plan, make_machine()))


def test_the_capture_kernel_is_given_its_window_and_no_more(kernel: KernelImage) -> None:
    plan = crash_plan(kernel, mem_min=0x20000000, mem_max=0x27FFFFFF)
    headers = plan.headers
    given = plan.next_map.of_type(RangeType.RAM)
    covered = RangeSet.of(item.range for item in plan)
    assert given == covered.without(headers), "all its RAM is in a segment; not the headers"
    assert plan.next_map.of_type(RangeType.RESERVED).covers(headers)
    assert f"elfcorehdr={headers.start:#x} nokaslr nr_cpus=1" in str(plan.cmdline)


def test_without_bounds_the_window_is_chosen(kernel: KernelImage) -> None:
    plan = crash_plan(kernel)
    assert plan.window.size == plan.estimate.size
    assert plan.window.end <= 4 * GIB
    assert plan.window.start >= 16 * MIB


def test_the_window_keeps_off_the_running_kernel(kernel: KernelImage) -> None:
    image = PhysRange(0x38000000, 0x3C000000)
    machine = make_machine(kernel_image=[image])
    plan = plan_load(kernel, machine, LoadRequest(kind=CRASH))
    assert plan.window is not None
    assert not plan.window.overlaps(image)


def test_the_smaller_memory_is_placed_inside_the_window(kernel: KernelImage) -> None:
    plan = crash_plan(kernel, mem_min=0x10000000, mem_max=0x2FFFFFFF, crash_size=96 * MIB)
    assert plan.window == PhysRange(0x30000000 - 96 * MIB, 0x30000000)
    assert plan.warnings == (
        "the window has 96 MiB, less than the estimate of 104 MiB for this kernel and "
        "initrd: the capture kernel may run out of memory",
    )


def test_the_seeds_window_is_refused_for_a_modern_kernel(kernel: KernelImage) -> None:
    with pytest.raises(DoesNotFit) as caught:
        crash_plan(kernel, mem_min=0x100000, mem_max=0xFFFFFF)
    assert caught.value.message == (
        "the window 0x100000..0x1000000 has no room for this kernel: loaded below 16 "
        "MiB, it moves itself to 0x1000000, where it needs 0x3378000 bytes (51.5 MiB)"
    )


def test_what_does_not_fit_is_named(kernel: KernelImage) -> None:
    with pytest.raises(DoesNotFit, match=r"^initrd: no free range of 0x101000 bytes") as caught:
        crash_plan(kernel, mem_min=0x20000000, mem_max=0x20000000 + 0x3480000 - 1)
    assert (caught.value.hint_in(PYKEXEC) or "").startswith(
        "use a window of 104 MiB (--crash-size), the estimate"
    )


def test_the_stub_checks_loaded_bytes_and_not_the_headers(kernel: KernelImage) -> None:
    plan = crash_plan(kernel)
    stub = plan.named(names.PURGATORY)
    assert stub is not None
    assert stub.contents is not None
    raw = b"".join(stub.contents.chunks())
    params = parse_params(raw)
    regions, exchanges = parse_tables(
        raw[params.tables - stub.range.start :], params.n_regions, params.n_exchanges
    )
    expected = {
        item.range.start: (item.contents.size, item.contents.sha256)
        for item in plan
        if item.contents and item.name != names.PURGATORY
    }
    assert {r.addr: (r.size, r.sha256) for r in regions} == expected
    assert len(regions) == 3
    assert exchanges == ()
    kernel_at = plan.named(names.KERNEL)
    assert kernel_at is not None
    assert params.entry == kernel_at.range.start + 0x200
    assert params.seal == plan.headers.end - 48


def test_no_checks_leaves_the_digests_out(kernel: KernelImage) -> None:
    stub = crash_plan(kernel, checks=False).named(names.PURGATORY)
    assert stub is not None
    assert stub.contents is not None
    params = parse_params(b"".join(stub.contents.chunks()))
    assert params.n_regions == 0
    assert not params.checks


def test_gaps_are_folded_to_sixteen_segments(kernel: KernelImage) -> None:
    holes = [(0x20000000 + n * 0x100000, 0x20000000 + n * 0x100000 + 0x1000) for n in range(5)]
    memory_map = MemoryMap.of([*pc_map().ranges, *reserved(*holes)])
    request = LoadRequest(kind=CRASH, mem_min=0x20000000, mem_max=0x27FFFFFF)
    plan = plan_load(kernel, make_machine(memory_map), request)
    assert len(segment_table(plan).segments) <= 16
    covered = RangeSet.of(item.range for item in plan)
    window = memory_map.whole_page_ram(4096).within(PhysRange(0x20000000, 0x28000000))
    assert covered.within(PhysRange(0x20000000, 0x28000000)) == window


def piece(role: Role, start: int, end: int) -> Placed:
    return Placed(role, PhysRange(start, end), "the test says so")


def test_as_many_pieces_as_fit_stay_as_they_are() -> None:
    pieces = [piece(Role.KERNEL, 0, P), piece(Role.CAPTURE_MEMORY, P, 2 * P)]
    assert fold(pieces, 2) == tuple(pieces)
    assert fold(pieces, 1) == (piece(Role.KERNEL, 0, 2 * P),)


def test_the_segment_of_the_headers_takes_no_gap_in() -> None:
    """Its seal is found from its end."""
    headers, gap = piece(Role.ELFCOREHDR, 0, P), piece(Role.CAPTURE_MEMORY, P, 2 * P)
    stub, last = piece(Role.PURGATORY, 2 * P, 3 * P), piece(Role.CAPTURE_MEMORY, 3 * P, 4 * P)
    assert fold([headers, gap, stub, last], 3) == (
        headers, gap, piece(Role.PURGATORY, 2 * P, 4 * P)
    )  # fmt: skip
    with pytest.raises(TooManySegments):
        fold([headers, gap], 1)


def test_a_window_of_just_the_kernels_size_has_room_for_it(kernel: KernelImage) -> None:
    boot = kernel.linux_for(LinuxX86Boot)
    floor, size = boot.pref_address, boot.init_size
    check_window(PhysRange(floor, floor + size), boot)
    with pytest.raises(WindowRefused, match="has no room for this kernel"):
        check_window(PhysRange(floor, floor + size - 1), boot)


def test_too_many_pieces_of_ram_are_refused(kernel: KernelImage) -> None:
    holes = [(0x20000000 + n * 0x100000, 0x20000000 + n * 0x100000 + 0x1000) for n in range(20)]
    memory_map = MemoryMap.of([*pc_map().ranges, *reserved(*holes)])
    request = LoadRequest(kind=CRASH, mem_min=0x20000000, mem_max=0x27FFFFFF)
    with pytest.raises(
        TooManySegments, match="are needed, but kexec_load accepts only 16"
    ) as caught:
        plan_load(kernel, make_machine(memory_map), request)
    assert "memory below 1 MiB costs 1" in (caught.value.hint_in(PYKEXEC) or "")


def test_several_pieces_below_1_mib_are_a_segment_each(kernel: KernelImage) -> None:
    memory_map = MemoryMap.of([*pc_map().ranges, *reserved((0x40000, 0x41000))])
    plan = plan_load(kernel, make_machine(memory_map), LoadRequest(kind=CRASH))
    assert [item.range.end for item in plan if item.name == names.LOW] == [0x40000, 0x9F000]


@pytest.mark.parametrize("text", ["elfcorehdr=0x1000", "quiet elfcorehdr=1K"])
def test_elfcorehdr_is_not_the_users(kernel: KernelImage, text: str) -> None:
    with pytest.raises(UsageError, match="elfcorehdr= is set by pykexec"):
        crash_plan(kernel, append=(text,))


def test_reuse_needs_a_known_command_line(kernel: KernelImage) -> None:
    machine = make_machine(cmdline=Unknown("no /proc/cmdline"))
    with pytest.raises(
        NotSupported, match="command line of test, which is to be reused, is unknown"
    ):
        plan_load(kernel, machine, LoadRequest(reuse_cmdline=True))


def test_a_capture_kernel_never_inherits_the_reservation(kernel: KernelImage) -> None:
    line = str(crash_plan(kernel, reuse_cmdline=True).cmdline)
    assert line.startswith("root=/dev/vda1 quiet elfcorehdr=")
    assert "crashkernel" not in line


def test_bounds_the_wrong_way_round(kernel: KernelImage) -> None:
    with pytest.raises(UsageError, match="the highest address 0x1000 is below the lowest, 0x2000"):
        crash_plan(kernel, mem_min=0x2000, mem_max=0x1000)


def test_an_unknown_memory_map_is_said(kernel: KernelImage) -> None:
    machine = replace(make_machine(), memory_map=Unknown("/proc/iomem is hidden"))
    with pytest.raises(NotSupported, match="the memory map of test is unknown: /proc/iomem is"):
        plan_load(kernel, machine, LoadRequest())
