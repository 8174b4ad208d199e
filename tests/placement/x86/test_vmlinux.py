"""A vmlinux is a Linux kernel in every kind of load, at its link address or moved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pykexec.abi.x86.bootparam import BOOT_PARAMS_SIZE
from pykexec.images.contents import Built, contents_bytes
from pykexec.images.identify import identify
from pykexec.images.kernel_image import KernelImage
from pykexec.memory.ranges import PhysRange
from pykexec.placement.kernel_rules import check_plan, refuse_broken
from pykexec.placement.plan import PlacementPlan
from pykexec.placement.plan_load import plan_load
from pykexec.placement.request import ImageKind, LoadRequest
from pykexec.purgatory import parse_params
from tests.builders import GIB, MIB, make_machine, make_vmlinux, pc_map, write
from tests.placement import names

REGION = PhysRange(256 * MIB, 512 * MIB)


@pytest.fixture
def kernel(tmp_path: Path) -> KernelImage:
    return identify(write(tmp_path, "vmlinux", make_vmlinux(entry=0x1000100)))


def stub(plan: PlacementPlan) -> tuple[int, int]:
    """RSI and RIP at the kernel's entry."""
    item = plan.named(names.PURGATORY)
    assert item is not None
    assert item.contents is not None
    params = parse_params(contents_bytes(item.contents, MIB))
    return params.boot_params, params.entry


def place_of(plan: PlacementPlan, name: str) -> PhysRange:
    item = plan.named(name)
    assert item is not None
    return item.range


def test_a_normal_load_puts_it_where_it_was_linked(kernel: KernelImage) -> None:
    """The golden vector of a vmlinux: the kernel at 0x1000000."""
    machine = make_machine()
    plan = plan_load(kernel, machine, LoadRequest(initrd=Built(bytes(5000)), append=("quiet",)))
    refuse_broken(check_plan(plan, machine))
    assert place_of(plan, names.KERNEL) == PhysRange.sized(0x1000000, 0x500000)
    assert stub(plan) == (place_of(plan, names.BOOT_PARAMS).start, 0x1000100)
    params = plan.named(names.BOOT_PARAMS)
    assert params is not None
    assert params.contents is not None
    raw = contents_bytes(params.contents, MIB)
    assert raw[0x202:0x206] == b"HdrS"
    assert raw[0x210] == 0xD0
    assert raw[BOOT_PARAMS_SIZE:].startswith(b"quiet\0")
    kernel_item = plan.named(names.KERNEL)
    assert kernel_item is not None
    assert kernel_item.why == (
        "at the lowest free address at or above 0x1000000, aligned to 2 MiB; 0x500000 "
        "bytes (5 MiB) with its bss"
    )


def test_it_is_moved_when_its_place_is_taken(kernel: KernelImage) -> None:
    plan = plan_load(kernel, make_machine(), LoadRequest(mem_min=0x1200001))
    assert place_of(plan, names.KERNEL).start == 0x1400000
    assert stub(plan)[1] == 0x1400100


def test_a_crash_load_has_its_headers(kernel: KernelImage) -> None:
    """kexec-tools loads it without headers: a capture kernel that captures nothing."""
    machine = make_machine(crash_kernel=[REGION])
    plan = plan_load(kernel, machine, LoadRequest(ImageKind.CRASH))
    refuse_broken(check_plan(plan, machine))
    assert place_of(plan, names.KERNEL).start == REGION.start
    headers = place_of(plan, names.ELFCOREHDR)
    assert f"elfcorehdr={headers.start:#x}" in str(plan.cmdline)


def test_a_crash_by_normal_takes_it_too(kernel: KernelImage) -> None:
    machine = make_machine(pc_map(2 * GIB))
    request = LoadRequest(ImageKind.CRASH_BY_NORMAL, mem_min=512 * MIB, mem_max=704 * MIB - 1)
    plan = plan_load(kernel, machine, request)
    refuse_broken(check_plan(plan, machine))
    assert place_of(plan, names.KERNEL).start == 512 * MIB
    assert place_of(plan, names.ELFCOREHDR).start >= 512 * MIB
    again = plan_load(kernel, machine, replace(request))
    assert [item.range for item in again] == [item.range for item in plan]
