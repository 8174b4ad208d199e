"""Where a load on arm64 goes, the device tree of the next kernel, and what is refused. The machines
are captured guests."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pykexec.abi.devicetree import (
    MAX_SIZE,
    BadDeviceTree,
    DeviceTree,
    Node,
    cells,
    parse_device_tree,
)
from pykexec.abi.elf import EHDR, PHDR, PT_LOAD
from pykexec.errors import NotSupported, UsageError
from pykexec.flows.file_load import plan_file_load
from pykexec.host.captured import open_root
from pykexec.host.facts import read_machine
from pykexec.images.contents import Built, contents_bytes
from pykexec.images.identify import identify
from pykexec.images.kernel_image import KernelImage
from pykexec.machine import DeviceTreeFirmware, ExceptionLevel, Machine, Unknown
from pykexec.memory.hole import NoHole
from pykexec.memory.map import MemoryMap
from pykexec.memory.ranges import GIB, MIB, PhysRange, RangeSet
from pykexec.placement.arm64.device_tree import (
    NoMemory,
    OutsideMemory,
    TreeOfAnotherMachine,
    information_for,
)
from pykexec.placement.arm64.linux import KERNEL_ALIGN, ProtectedKvm, WrongPageSize
from pykexec.placement.arm64.processors import StuckProcessors
from pykexec.placement.boot_protocol import BootInformation, boot_protocol
from pykexec.placement.cmdline import CommandLine, CommandLineTooLong
from pykexec.placement.foreign import ForeignArchitecture
from pykexec.placement.granted import Granted
from pykexec.placement.implied import implied_notes, with_implied
from pykexec.placement.kernel_rules import check_plan
from pykexec.placement.plan import BootPlaces, Plan
from pykexec.placement.plan_load import plan_load
from pykexec.placement.request import ImageKind, LoadRequest, Mode, Module
from pykexec.placement.role import Role
from pykexec.placement.space import Space
from pykexec.purgatory.arm64.stub import parse_params
from tests.builders import make_arm64_image, make_bzimage, make_machine, make_uki, pack, ram, write

ROOTS = Path(__file__).parents[2] / "host" / "arm64"
INITRD = Built(b"i" * 5000)
NORMAL = LoadRequest(initrd=INITRD, append=("quiet",))
CRASH = LoadRequest(kind=ImageKind.CRASH, initrd=INITRD, append=("quiet",))


@cache
def machine(name: str = "virt") -> Machine:
    return read_machine(open_root(ROOTS / f"{name}.json"))


@pytest.fixture
def image(tmp_path: Path) -> KernelImage:
    return image_of(tmp_path)


def image_of(tmp_path: Path, **header: Any) -> KernelImage:
    return identify(write(tmp_path, "Image", make_arm64_image(**header)))


def tree_of(plan: Plan) -> DeviceTree:
    item = plan.first(Role.BOOT_INFORMATION)
    assert item
    assert item.contents
    return parse_device_tree(contents_bytes(item.contents, MAX_SIZE))


def chosen_of(plan: Plan) -> Node:
    found = tree_of(plan).node("/chosen")
    assert found
    return found


def place_of(plan: Plan, role: Role) -> PhysRange:
    item = plan.first(role)
    assert item
    return item.range


@pytest.mark.parametrize("name", ["virt", "virt-efi"])
@pytest.mark.parametrize("request_", [NORMAL, CRASH], ids=["normal", "crash"])
def test_the_kernel_takes_the_plan(image: KernelImage, name: str, request_: LoadRequest) -> None:
    found = machine(name)
    plan = plan_load(image, found, request_)
    assert [check.rule for check in check_plan(plan, found) if check.ok is False] == []
    held = found.known_map.held
    assert not any(held.overlaps(item.range) for item in plan)


@pytest.mark.parametrize("text_offset", [0, 0x80000])
def test_where_the_kernel_goes(tmp_path: Path, text_offset: int) -> None:
    found = image_of(tmp_path, text_offset=text_offset, image_size=3 * MIB)
    plan = plan_load(found, machine(), NORMAL)
    kernel = place_of(plan, Role.KERNEL)
    assert kernel.start % KERNEL_ALIGN == text_offset
    assert kernel.size == 3 * MIB
    stub = plan.first(Role.PURGATORY)
    assert stub
    assert stub.contents
    params = parse_params(contents_bytes(stub.contents, 1 << 20))
    assert (params.entry, params.dtb) == (
        kernel.start,
        place_of(plan, Role.BOOT_INFORMATION).start,
    )
    assert params.n_regions == 3


def test_nothing_is_placed_in_the_crash_region(image: KernelImage) -> None:
    found = machine()
    assert found.crash_kernel
    region = found.crash_kernel.ranges[0]
    for request in (NORMAL, replace(NORMAL, mem_min=region.start - 8 * MIB)):
        plan = plan_load(image, found, request)
        assert not any(region.overlaps(item.range) for item in plan)
    inside = replace(NORMAL, mem_min=region.start, mem_max=region.last)
    with pytest.raises(NoHole):
        plan_load(image, found, inside)


def test_kernel_and_initrd_are_in_one_range(image: KernelImage, tmp_path: Path) -> None:
    """32 GiB from a multiple of 1 GiB: not every free address will do."""
    protocol, information = boot_protocol(machine()), protocol_information()
    big = replace(NORMAL, initrd=Built(bytes(8 * MIB)))
    far = PhysRange(100 * GIB, 200 * GIB)

    def places(*free: PhysRange) -> BootPlaces:
        return protocol.place(Space(RangeSet(free), 4096), image, big, information)

    low = PhysRange.sized(9 * GIB, 6 * MIB)
    found = places(low, PhysRange.sized(40 * GIB, 16 * MIB), far)
    assert (found.kernel.start, found.initrd and found.initrd.start) == (9 * GIB, 40 * GIB)
    with pytest.raises(NoHole, match="initrd: no free range"):
        places(low, PhysRange.sized(50 * GIB, MIB), far)
    image = image_of(tmp_path, image_size=16 * MIB)
    found = places(PhysRange.sized(8 * GIB, 9 * MIB), PhysRange.sized(9 * GIB, 20 * MIB), far)
    assert (found.kernel.start, found.initrd and found.initrd.end) == (9 * GIB, 8 * GIB + 9 * MIB)


def protocol_information() -> BootInformation:
    found = machine()
    return information_for(found, NORMAL, CommandLine(), found.known_map, bytes(32))


def test_what_the_next_kernel_is_told(image: KernelImage) -> None:
    plan = plan_load(image, machine(), NORMAL)
    chosen, initrd = chosen_of(plan), place_of(plan, Role.INITRD)
    assert chosen.text("bootargs") == "quiet"
    assert chosen.number("linux,initrd-start") == initrd.start
    assert chosen.number("linux,initrd-end") == initrd.start + INITRD.size
    assert len(chosen.get("rng-seed") or b"") == 32
    assert len(chosen.get("kaslr-seed") or b"") == 8
    assert chosen.text("stdout-path") == "/pl011@9000000"
    assert chosen.get("linux,usable-memory-range") is None
    assert chosen.get("linux,elfcorehdr") is None


def test_without_an_initrd_the_old_one_is_forgotten(image: KernelImage) -> None:
    chosen = chosen_of(plan_load(image, machine(), replace(NORMAL, initrd=None)))
    assert chosen.get("linux,initrd-start") is None
    assert chosen.get("linux,initrd-end") is None


def test_the_seeds_differ(image: KernelImage) -> None:
    """The one must not tell the other."""
    plan = plan_load(image, machine(), NORMAL, Granted(rng_seed=bytes(range(32))))
    chosen = chosen_of(plan)
    assert chosen.get("rng-seed") == bytes(range(32))
    assert (chosen.get("kaslr-seed") or b"") not in bytes(range(32))


def test_what_a_capture_kernel_is_told(image: KernelImage) -> None:
    found = machine()
    plan = plan_load(image, found, CRASH)
    assert found.crash_kernel
    region, chosen = found.crash_kernel.ranges[0], chosen_of(plan)
    headers = place_of(plan, Role.ELFCOREHDR)
    assert region.covers(headers)
    usable = cells(region.start, 2) + cells(region.size, 2)
    assert chosen.get("linux,usable-memory-range") == usable
    where = cells(headers.start, 2) + cells(headers.size, 2)
    assert chosen.get("linux,elfcorehdr") == where
    words = (chosen.text("bootargs") or "").split()
    assert "cma=0" in words
    assert not any(word.startswith("elfcorehdr=") for word in words)


def test_the_users_own_cma_counts(image: KernelImage) -> None:
    plan = plan_load(image, machine(), replace(CRASH, append=("cma=16M",)))
    words = (chosen_of(plan).text("bootargs") or "").split()
    assert [word for word in words if word.startswith("cma=")] == ["cma=16M"]


def test_a_second_region_is_usable_too(image: KernelImage) -> None:
    found = machine()
    assert found.crash_kernel
    low = PhysRange(0x44000000, 0x45000000)
    both = replace(found, crash_kernel=RangeSet.of((low, *found.crash_kernel)))
    high = found.crash_kernel.ranges[0]
    usable = chosen_of(plan_load(image, both, CRASH)).get("linux,usable-memory-range")
    assert usable == b"".join(cells(n, 2) for s in (high, low) for n in (s.start, s.size))


def test_the_headers_of_a_dump(image: KernelImage) -> None:
    """The machine is arm64's, the kernel's image is shown where it was mapped, and memory that the
    kernel reserved is in it."""
    found = machine()
    plan = plan_load(image, found, CRASH)
    item = plan.first(Role.ELFCOREHDR)
    assert item
    assert item.contents
    raw = contents_bytes(item.contents, 1 << 20)
    fields = EHDR.unpack_from(raw)
    assert fields[2] == 183
    rows = PHDR.iter_unpack(raw[fields[5] : fields[5] + fields[10] * PHDR.size])
    loads = [row for row in rows if row[0] == PT_LOAD]
    assert not isinstance(found.kernel_mapping, Unknown)
    assert not isinstance(found.page_offset_base, Unknown)
    by_image = [row for row in loads if row[3] == found.kernel_mapping.vaddr]
    assert len(by_image) == 1
    others = [row for row in loads if row not in by_image]
    assert all(row[3] - row[4] == found.page_offset_base for row in others)
    assert found.crash_kernel
    shown = RangeSet.of(PhysRange.sized(row[4], row[5]) for row in others)
    assert shown == RangeSet((PhysRange(GIB, 2 * GIB),)) - found.crash_kernel


# --- device trees ---------------------------------------------------------------------------


def with_tree(*children: Node, **chosen: bytes) -> DeviceTree:
    values = tuple((name.replace("_", "-"), value) for name, value in chosen.items())
    root = Node(
        "",
        (("#address-cells", cells(2, 1)), ("#size-cells", cells(2, 1))),
        (*children, Node("chosen", values)),
    )
    return DeviceTree(root)


def test_a_given_tree_gets_memory_and_keeps_the_rest(image: KernelImage) -> None:
    given = with_tree(Node("soc"), stdout_path=b"/soc/uart\0")
    plan = plan_load(image, machine(), replace(NORMAL, dtb=Built(given.encode())))
    tree = tree_of(plan)
    memory = tree.node("/memory@40000000")
    assert memory
    assert memory.get("reg") == cells(GIB, 2) + cells(GIB, 2)
    assert tree.node("/soc") == Node("soc")
    assert chosen_of(plan).text("stdout-path") == "/soc/uart"
    assert tree.node("/psci") is None


def test_memory_in_a_given_tree_stays(image: KernelImage) -> None:
    mine = Node("memory", (("device_type", b"memory\0"), ("reg", cells(GIB, 2) * 2)))
    empty = mine.changed({"reg": bytes(16)})
    for node, expected in ((mine, [mine]), (empty, ["memory@40000000"])):
        plan = plan_load(image, machine(), replace(NORMAL, dtb=Built(with_tree(node).encode())))
        found = [item for item in tree_of(plan).root.children if item.name.startswith("memory")]
        assert [item.name for item in found] == [getattr(item, "name", item) for item in expected]


def test_memory_is_given_in_the_cells_of_the_tree(image: KernelImage) -> None:
    root = Node("", (("#address-cells", cells(1, 1)), ("#size-cells", cells(1, 1))))
    plan = plan_load(image, machine(), replace(CRASH, dtb=Built(DeviceTree(root).encode())))
    memory = tree_of(plan).node("/memory")
    assert memory
    assert memory.get("reg") == cells(GIB, 1) * 2
    assert len(chosen_of(plan).get("linux,usable-memory-range") or b"") == 8


@pytest.mark.parametrize(
    ("address", "size", "problem"),
    [
        (2, 2, None),
        (2, 1, None),
        (1, 1, "names no memory at 0x240000000"),
        (3, 2, "#address-cells 3, not 1 or 2"),
        (2, 0, "#size-cells 0, not 1 or 2"),
        (0xFFFFFFFF, 2, "#address-cells 4294967295, not 1 or 2"),
    ],
)
def test_the_memory_of_a_capture_kernel_in_the_cells_of_the_tree(
    image: KernelImage, address: int, size: int, problem: str | None
) -> None:
    """It is above 4 GiB, which one cell cannot express."""
    region = PhysRange.sized(9 * GIB, 256 * MIB)
    memory_map = MemoryMap.of(ram((GIB, 2 * GIB), (8 * GIB, 12 * GIB)))
    high = replace(machine(), memory_map=memory_map, crash_kernel=RangeSet((region,)))
    spans = [(GIB, GIB)] + [(start, GIB) for start in range(8 * GIB, 12 * GIB, GIB) if address == 2]
    reg = b"".join(cells(start, min(address, 2)) + cells(span, size or 1) for start, span in spans)
    memory = Node("memory", (("device_type", b"memory\0"), ("reg", reg)))
    root = with_tree(memory).root.changed(
        {"#address-cells": cells(address, 1), "#size-cells": cells(size, 1)}
    )
    request = replace(CRASH, dtb=Built(DeviceTree(root).encode()))
    if problem is None:
        usable = chosen_of(plan_load(image, high, request)).get("linux,usable-memory-range")
        assert usable == cells(region.start, address) + cells(region.size, size)
        return
    with pytest.raises((BadDeviceTree, OutsideMemory), match=problem):
        plan_load(image, high, request)


def test_a_given_tree_that_does_not_name_the_memory_that_is_used(image: KernelImage) -> None:
    """As that of a board with less memory; the kernel would stop without a message."""
    small = Node("memory", (("device_type", b"memory\0"), ("reg", cells(GIB, 2) + cells(MIB, 2))))
    for request in (NORMAL, CRASH):
        given = replace(request, dtb=Built(with_tree(small).encode()))
        with pytest.raises(OutsideMemory, match="the device tree names no memory at 0x"):
            plan_load(image, machine(), given)
        plan_load(image, machine("virt-efi"), given)


def test_efi_goes_on(image: KernelImage) -> None:
    found = machine("virt-efi")
    given = with_tree(Node("soc"))
    for request in (NORMAL, CRASH, replace(NORMAL, dtb=Built(given.encode()))):
        chosen = chosen_of(plan_load(image, found, request))
        assert chosen.number("linux,uefi-system-table") == 0x7FFD0018
        assert chosen.number("linux,uefi-mmap-size") == 0x630


def test_efi_does_not_go_on_if_unwanted(image: KernelImage) -> None:
    """The tree that the EFI stub made has no memory, and must not be all that a kernel gets."""
    found = machine("virt-efi").without_efi()
    with pytest.raises(NoMemory, match="names no memory") as caught:
        plan_load(image, found, NORMAL)
    assert str(caught.value.remedy).endswith("as dtb")
    given = with_tree(Node("memory", (("device_type", b"memory\0"), ("reg", cells(GIB, 2) * 2))))
    chosen = chosen_of(plan_load(image, found, replace(NORMAL, dtb=Built(given.encode()))))
    assert not [name for name, _ in chosen.properties if name.startswith("linux,uefi-")]


def test_a_root_without_cells_gets_them(image: KernelImage) -> None:
    """The kernel's defaults are not those of the specification."""
    plan = plan_load(image, machine(), replace(NORMAL, dtb=Built(DeviceTree(Node("")).encode())))
    assert tree_of(plan).root.cells == (2, 2)
    assert tree_of(plan).root.number("#address-cells") == 2


def test_reservations_stay_and_the_old_initrds_goes(image: KernelImage) -> None:
    found = machine()
    assert isinstance(found.firmware, DeviceTreeFirmware)
    assert isinstance(found.firmware.tree, bytes)
    tree = parse_device_tree(found.firmware.tree)
    chosen = tree.node("/chosen")
    assert chosen
    start, end = chosen.number("linux,initrd-start"), chosen.number("linux,initrd-end")
    assert start
    assert end
    changed = replace(tree, reserved=((start, end - start), (0x50000000, 0x1000)))
    firmware = replace(found.firmware, tree=changed.encode())
    plan = plan_load(image, replace(found, firmware=firmware), NORMAL)
    assert tree_of(plan).reserved == ((0x50000000, 0x1000),)


def test_an_unknown_tree_is_an_error(image: KernelImage) -> None:
    hidden = replace(machine(), firmware=DeviceTreeFirmware(tree=Unknown("not permitted")))
    with pytest.raises(NotSupported, match="the device tree of"):
        plan_load(image, hidden, NORMAL)


def test_a_given_tree_that_is_none(image: KernelImage) -> None:
    with pytest.raises(BadDeviceTree):
        plan_load(image, machine(), replace(NORMAL, dtb=Built(b"/dts-v1/;")))


@pytest.mark.parametrize("cut", [0, 3, 39, 40, 100, -1])
def test_a_given_tree_that_is_cut_off(image: KernelImage, cut: int) -> None:
    whole = with_tree(Node("soc")).encode()
    with pytest.raises(BadDeviceTree):
        plan_load(image, machine(), replace(NORMAL, dtb=Built(whole[:cut])))


def of_machine(*names: str) -> Built:
    tree = with_tree()
    root = tree.root.changed({"compatible": "".join(f"{name}\0" for name in names).encode()})
    return Built(replace(tree, root=root).encode())


@pytest.mark.parametrize("request_", [NORMAL, CRASH])
def test_the_tree_of_another_machine(image: KernelImage, request_: LoadRequest) -> None:
    other = replace(request_, dtb=of_machine("raspberrypi,4-model-b", "brcm,bcm2711"))
    with pytest.raises(TreeOfAnotherMachine, match=r"raspberrypi,4-model-b.*linux,dummy-virt"):
        plan_load(image, machine(), other)
    plan_load(image, machine(), replace(request_, dtb=of_machine("a,board", "linux,dummy-virt")))
    plan_load(image, machine("virt-efi"), other)  # ACPI: the running tree has no name


def test_the_tree_of_a_uki_is_used(tmp_path: Path) -> None:
    tree = with_tree(Node("from-the-uki")).encode()
    image = identify(write(tmp_path, "uki", make_uki(make_arm64_image(), extra=((b".dtb", tree),))))
    request = with_implied(image, LoadRequest(append=("a",)))
    plan = plan_load(image, machine(), request)
    assert tree_of(plan).node("/from-the-uki")
    assert "using the device tree inside the uki" in implied_notes(image, request)
    mine = replace(request, dtb=Built(with_tree().encode()))
    assert tree_of(plan_load(image, machine(), mine)).node("/from-the-uki") is None
    assert "the device tree inside the uki is replaced" in implied_notes(image, mine)


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ImageKind.NORMAL, ImageKind.CRASH])
def test_a_kernel_for_x86_is_refused(tmp_path: Path, kind: ImageKind) -> None:
    image = identify(write(tmp_path, "k", make_bzimage()))
    with pytest.raises(ForeignArchitecture, match="which arm64 cannot run"):
        plan_load(image, machine(), LoadRequest(kind))


@pytest.mark.parametrize("kind", [ImageKind.NORMAL, ImageKind.CRASH])
def test_the_kernel_loads_an_image_itself(tmp_path: Path, kind: ImageKind) -> None:
    """kexec_file_load(2); the headers are in the device tree, and the line may be longer."""
    data = make_arm64_image()
    image = identify(write(tmp_path, "k", pack(data, "gzip")))
    line = f"{'x' * 1800} quiet"
    plan = plan_file_load(image, machine(), LoadRequest(kind, initrd=INITRD, append=(line,)))
    assert plan.file.read(0, plan.file.size) == data
    words = str(plan.cmdline).split()
    assert ("cma=0" in words) == ("numa=off" in words) == (kind is ImageKind.CRASH)
    assert "mce=off" not in words  # known on x86 alone
    assert len(str(plan.cmdline)) < 2047
    longest = LoadRequest(append=("x" * 2047,))
    assert len(plan_file_load(image, machine(), longest).cmdline.encoded) == 2048


@pytest.mark.parametrize("kind", [ImageKind.NORMAL, ImageKind.CRASH])
def test_the_kernel_does_not_load_an_image_for_another_machine(
    tmp_path: Path, kind: ImageKind
) -> None:
    bzimage = identify(write(tmp_path, "b", make_bzimage()))
    arm64 = identify(write(tmp_path, "i", make_arm64_image()))
    for image, found in ((bzimage, machine()), (arm64, make_machine())):
        with pytest.raises(ForeignArchitecture):
            plan_file_load(image, found, LoadRequest(kind))


@pytest.mark.parametrize("request_", [NORMAL, CRASH])
def test_a_big_endian_kernel_is_refused(tmp_path: Path, request_: LoadRequest) -> None:
    with pytest.raises(NotSupported, match="big-endian"):
        plan_load(image_of(tmp_path, flags=0xB), machine(), request_)


def test_other_page_sizes(tmp_path: Path) -> None:
    """A user who is present sees what happens; nobody sees it after a panic."""
    image = image_of(tmp_path, flags=0xE)
    (warning,) = plan_load(image, machine(), NORMAL).warnings
    assert warning.startswith("the kernel has pages of 64 KiB, the running one of 4 KiB")
    with pytest.raises(WrongPageSize):
        plan_load(image, machine(), CRASH)
    assert plan_load(image_of(tmp_path, flags=0x8), machine(), CRASH).warnings == ()


def test_a_text_offset_inside_a_page(tmp_path: Path) -> None:
    with pytest.raises(NotSupported, match="text_offset 0x800"):
        plan_load(image_of(tmp_path, text_offset=0x800), machine(), NORMAL)


@pytest.mark.parametrize("methods", [{"spin-table"}, {"psci", "spin-table"}, {"none"}])
def test_processors_that_cannot_be_switched_off(image: KernelImage, methods: set[str]) -> None:
    stuck = with_methods(machine(), methods)
    with pytest.raises(StuckProcessors, match="EBUSY"):
        plan_load(image, stuck, NORMAL)
    moving = LoadRequest(ImageKind.CRASH_BY_NORMAL)
    with pytest.raises(StuckProcessors, match="in memory that the stub may move") as refused:
        plan_load(image, stuck, moving)
    assert "use mode in-place, which moves nothing" in (refused.value.hint or "")
    with pytest.raises(StuckProcessors):
        plan_load(image, stuck, replace(moving, mode=Mode.STUB_SWAP))
    assert isinstance(stuck.cpus, tuple)
    plan_load(image, replace(stuck, cpus=stuck.cpus[:1]), NORMAL)


@pytest.mark.parametrize(
    "request_",
    [CRASH, replace(CRASH, kind=ImageKind.CRASH_BY_NORMAL, mode=Mode.IN_PLACE)],
    ids=["crash", "in-place"],
)
def test_a_capture_kernel_without_the_other_processors(
    image: KernelImage, request_: LoadRequest
) -> None:
    """It may be loaded where nothing is moved, and waits for them if the user wants several."""
    found = machine()
    stuck = with_methods(found, {"spin-table"})
    assert new_warnings(image, found, stuck, request_) == set()
    several = replace(request_, append=("nr_cpus=2",))
    (warning,) = new_warnings(image, found, stuck, several)
    assert "started by spin-table and cannot be switched off" in warning
    assert isinstance(stuck.cpus, tuple)
    alone = replace(stuck, cpus=stuck.cpus[:1])
    assert new_warnings(image, found, alone, several) == set()


def with_methods(found: Machine, methods: set[str]) -> Machine:
    assert isinstance(found.firmware, DeviceTreeFirmware)
    return replace(found, firmware=replace(found.firmware, cpu_methods=frozenset(methods)))


def new_warnings(
    image: KernelImage, before: Machine, after: Machine, request: LoadRequest
) -> set[str]:
    """Those of one machine that another does not have."""
    old, new = (set(plan_load(image, found, request).warnings) for found in (before, after))
    return new - old


@pytest.mark.parametrize(
    ("words", "level", "refused"),
    [
        ("kvm-arm.mode=protected", ExceptionLevel.EL2, True),
        ("kvm-arm.mode=nvhe kvm-arm.mode=protected", ExceptionLevel.EL2, True),
        ("kvm-arm.mode=protected kvm-arm.mode=nvhe", ExceptionLevel.EL2, False),
        ("kvm-arm.mode=protected", ExceptionLevel.EL1, False),
        ("kvm-arm.mode=protected", Unknown("hidden"), False),
        ("quiet", ExceptionLevel.EL2, False),
    ],
)
def test_protected_kvm(
    image: KernelImage, words: str, level: ExceptionLevel | Unknown, refused: bool
) -> None:
    found = machine()
    assert isinstance(found.firmware, DeviceTreeFirmware)
    firmware = replace(found.firmware, exception_level=level)
    on = replace(found, cmdline=words, firmware=firmware)
    plan_load(image, on, CRASH)
    if not refused:
        plan_load(image, on, NORMAL)
        return
    with pytest.raises(ProtectedKvm, match="EBUSY"):
        plan_load(image, on, NORMAL)


def test_a_command_line_that_is_too_long(image: KernelImage) -> None:
    plan_load(image, machine(), replace(NORMAL, append=("x" * 2047,)))
    with pytest.raises(CommandLineTooLong):
        plan_load(image, machine(), replace(NORMAL, append=("x" * 2048,)))


def test_options_of_x86_and_arm64(image: KernelImage, tmp_path: Path) -> None:
    bzimage = identify(write(tmp_path, "k", make_bzimage()))
    with pytest.raises(UsageError, match="a device tree has no effect"):
        plan_load(bzimage, make_machine(), LoadRequest(dtb=Built(b"")))
    modules = (Module(Built(b"m"), "m"),)
    with pytest.raises(UsageError, match="a module has no effect"):
        plan_load(image, machine(), replace(NORMAL, modules=modules))
