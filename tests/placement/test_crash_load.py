"""`load --crash`: the placement of kexec-tools in a reserved region, and headers known before the
load."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from pykexec.abi.kexec import KexecFlag
from pykexec.cli.terms import PYKEXEC
from pykexec.errors import DoesNotFit, NotSupported
from pykexec.images.contents import Built
from pykexec.images.identify import identify
from pykexec.images.kernel_image import KernelImage
from pykexec.machine import KexecState, Machine, Unknown
from pykexec.memory.map import MemoryMap, RangeType
from pykexec.memory.ranges import PhysRange, RangeSet
from pykexec.placement.kernel_rules import check_plan
from pykexec.placement.plan import CrashPlan
from pykexec.placement.plan_load import plan_load
from pykexec.placement.request import ImageKind, LoadRequest
from pykexec.placement.reservation import NothingReserved, RegionInTheWay
from pykexec.purgatory import Exchange, parse_params, parse_tables
from tests.builders import GIB, make_bzimage, make_machine, reserved, write
from tests.placement import names
from tests.placement.x86.test_linux64 import ORACLE_MAP

REGION = PhysRange.from_inclusive(0x6F000000, 0x7EFFFFFF)
DIRECT_MAP = 0xFFFF888000000000


@pytest.fixture
def kernel(tmp_path: Path) -> KernelImage:
    image = make_bzimage(bytes(0x10000), init_size=0x3378000)
    return identify(write(tmp_path, "vmlinuz", image))


def machine(*regions: PhysRange) -> Machine:
    return make_machine(ORACLE_MAP, crash_kernel=regions or (REGION,))


def crash_plan(kernel: KernelImage, on: Machine | None = None, **wishes: object) -> CrashPlan:
    request = LoadRequest(kind=ImageKind.CRASH, initrd=Built(bytes(0x300001)))
    plan = plan_load(kernel, on or machine(), replace(request, **wishes))  # type: ignore[arg-type]
    assert isinstance(plan, CrashPlan)
    return plan


def bytes_of(plan: CrashPlan, name: str) -> bytes:
    item = plan.named(name)
    assert item is not None
    assert item.contents is not None
    return b"".join(item.contents.chunks())


def test_kernel_and_initrd_lie_where_kexec_tools_puts_them(kernel: KernelImage) -> None:
    plan = crash_plan(kernel)
    at = {item.name: item.range for item in plan}
    assert at[names.KERNEL] == PhysRange.sized(0x7BA00000, 0x3378000)
    assert at[names.INITRD] == PhysRange.sized(0x7B6FF000, 0x301000)
    assert at[names.BACKUP] == PhysRange(REGION.end - 0x9E000, REGION.end)
    assert at[names.ELFCOREHDR].end == at[names.BACKUP].start
    assert plan.flags == KexecFlag.KEXEC_ON_CRASH
    assert all(check.ok for check in check_plan(plan, machine()))


def test_the_headers_show_each_range_once(kernel: KernelImage) -> None:
    """The ELF header of the golden vector, without its text PT_LOAD, which overlaps."""
    plan = crash_plan(kernel)
    backup = plan.named(names.BACKUP)
    assert backup is not None
    core = ELFFile(io.BytesIO(bytes_of(plan, names.ELFCOREHDR)))
    found = [
        (s["p_paddr"], s["p_offset"], s["p_memsz"], s["p_vaddr"] - DIRECT_MAP)
        for s in core.iter_segments("PT_LOAD")
    ]
    assert found == [
        (0x0, 0x0, 0x1000, 0x0),
        (0x1000, backup.range.start, 0x9E000, 0x1000),
        (0x100000, 0x100000, 0x6EF00000, 0x100000),
        (0x7F000000, 0x7F000000, 0xFE0000, 0x7F000000),
        (4 * GIB, 4 * GIB, 2 * GIB, 4 * GIB),
    ]
    notes = [(s["p_offset"], s["p_memsz"]) for s in core.iter_segments("PT_NOTE")]
    assert notes == [(0x1100000, 368), (0x1101000, 368), (0x1200000, 4132)]


def test_ram_that_a_driver_added_is_in_the_dump(kernel: KernelImage) -> None:
    added = PhysRange.sized(8 * GIB, GIB)
    plugged = MemoryMap.of(ORACLE_MAP.ranges, RangeSet((added,)))
    plan = crash_plan(kernel, replace(machine(), memory_map=plugged))
    core = ELFFile(io.BytesIO(bytes_of(plan, names.ELFCOREHDR)))
    shown = [(s["p_paddr"], s["p_memsz"]) for s in core.iter_segments("PT_LOAD")]
    assert shown[-1] == (added.start, added.size)
    assert not plan.next_map.of_type(RangeType.RAM).overlaps(added)


def test_the_stub_exchanges_the_low_pages_and_checks_the_headers(kernel: KernelImage) -> None:
    plan = crash_plan(kernel)
    stub = plan.named(names.PURGATORY)
    backup = plan.named(names.BACKUP)
    headers = plan.named(names.ELFCOREHDR)
    assert stub is not None
    assert backup is not None
    assert headers is not None
    raw = bytes_of(plan, names.PURGATORY)
    params = parse_params(raw)
    regions, exchanges = parse_tables(
        raw[params.tables - stub.range.start :], params.n_regions, params.n_exchanges
    )
    assert exchanges == (Exchange(0x1000, backup.range.start, 0x9E000),)
    assert headers.range.start in {region.addr for region in regions}
    assert params.seal == 0


def test_the_capture_kernel_is_given_the_region_and_the_low_pages(kernel: KernelImage) -> None:
    plan = crash_plan(kernel)
    given = plan.next_map.of_type(RangeType.RAM)
    kept = [plan.named(names.BACKUP), plan.named(names.ELFCOREHDR)]
    expected = RangeSet.of([PhysRange(0x1000, 0x9F000), REGION])
    for item in kept:
        assert item is not None
        expected = expected.without(item.range)
    assert given == expected


def test_the_kernel_may_rewrite_the_headers_of_a_hotplug_load(kernel: KernelImage) -> None:
    on = replace(machine(), kexec=KexecState(crash_elfcorehdr_size=0x22000))
    plan = crash_plan(kernel, on, hotplug=True)
    headers = plan.named(names.ELFCOREHDR)
    assert headers is not None
    assert headers.range.size == 0x22000
    assert plan.named(names.BACKUP) is None, "the kernel's rewrite would undo the redirection"
    assert plan.flags == KexecFlag.KEXEC_ON_CRASH | KexecFlag.KEXEC_UPDATE_ELFCOREHDR
    raw = bytes_of(plan, names.PURGATORY)
    assert parse_params(raw).n_regions == 3, "and the stub would see a mismatch"


def test_the_headers_have_their_room_whatever_the_kernel_wants(kernel: KernelImage) -> None:
    on = replace(machine(), kexec=KexecState(crash_elfcorehdr_size=16))
    headers = crash_plan(kernel, on, hotplug=True).named(names.ELFCOREHDR)
    assert headers is not None
    assert headers.contents is not None
    assert headers.contents.size > 16
    assert headers.range.size >= headers.contents.size


def test_hotplug_needs_a_kernel_that_has_it(kernel: KernelImage) -> None:
    on = replace(machine(), kexec=KexecState(crash_elfcorehdr_size=Unknown("no such file")))
    with pytest.raises(
        NotSupported, match=r"^the size that the kernel needs for .*: no such file$"
    ):
        crash_plan(kernel, on, hotplug=True)


def test_the_highest_region_is_used_and_all_are_left_out(kernel: KernelImage) -> None:
    lower = PhysRange(0x10000000, 0x12000000)
    plan = crash_plan(kernel, machine(lower, REGION))
    assert plan.window == REGION
    core = ELFFile(io.BytesIO(bytes_of(plan, names.ELFCOREHDR)))
    shown = RangeSet.of(
        PhysRange.sized(s["p_paddr"], s["p_memsz"]) for s in core.iter_segments("PT_LOAD")
    )
    assert not shown.overlaps(lower)
    assert not shown.overlaps(REGION)


def test_without_a_reservation_it_says_what_to_do(kernel: KernelImage) -> None:
    with pytest.raises(NothingReserved) as caught:
        crash_plan(kernel, make_machine(ORACLE_MAP))
    assert caught.value.message == "there is no crash region"
    assert (
        caught.value.hint_in(PYKEXEC)
        == "run pykexec region make 256M, boot with crashkernel=256M, or use --crash-by-normal"
    )


def test_a_region_below_640_kib_is_refused(kernel: KernelImage) -> None:
    """Even as the second region: the stub would exchange the memory that it reserves."""
    low = PhysRange.sized(0x80000, 0x10000)
    for regions in ((low,), (low, REGION)):
        with pytest.raises(RegionInTheWay) as caught:
            crash_plan(kernel, machine(*regions))
        assert caught.value.message == (
            "the crash region 0x80000..0x90000 is in memory that the stub exchanges"
        )


def test_a_region_that_is_too_small_has_a_size_advised(kernel: KernelImage) -> None:
    with pytest.raises(DoesNotFit, match=r"^backup of memory below 1 MiB: no free range") as caught:
        crash_plan(kernel, machine(PhysRange.sized(REGION.start, 0x10000)))
    assert (caught.value.hint_in(PYKEXEC) or "").startswith(
        "boot with crashkernel=108M, or use --crash-by-normal, the estim"
    )


def test_a_window_can_only_shrink_the_region(kernel: KernelImage) -> None:
    plan = crash_plan(kernel, mem_min=0x70000000)
    assert plan.window == PhysRange(0x70000000, REGION.end)
    with pytest.raises(NothingReserved, match=r"the crash region .* is outside of"):
        crash_plan(kernel, mem_max=0x10000000)


def test_a_fact_that_the_dump_needs_must_be_known(kernel: KernelImage) -> None:
    on = replace(machine(), page_offset_base=Unknown("/proc/kcore: permission denied"))
    with pytest.raises(NotSupported, match="the start of the direct map is unknown: /proc/kcore"):
        crash_plan(kernel, on)


def test_low_memory_in_pieces_is_kept_in_pieces(kernel: KernelImage) -> None:
    pieces = replace(
        machine(),
        memory_map=type(ORACLE_MAP).of([*ORACLE_MAP.ranges, *reserved((0x40000, 0x41000))]),
    )
    plan = crash_plan(kernel, pieces)
    assert parse_params(bytes_of(plan, names.PURGATORY)).n_exchanges == 2


def test_every_region_is_memory_of_the_capture_kernel(kernel: KernelImage) -> None:
    """crashkernel=SIZE,high has a small region below 4 GiB for devices, which is neither in a
    segment nor in the dump."""
    low = PhysRange(0x1000000, 0x2000000)
    plan = crash_plan(kernel, machine(low, REGION))
    assert plan.next_map.ram.covers(low)
    assert all(item.range.start in REGION for item in plan)
    core = ELFFile(io.BytesIO(bytes_of(plan, names.ELFCOREHDR)))
    spans = [PhysRange.sized(s["p_paddr"], s["p_memsz"]) for s in core.iter_segments("PT_LOAD")]
    assert not any(span.overlaps(low) for span in spans)
