"""Complete plans for every image that is not a Linux x86_64 kernel, and what each is passed."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pykexec.abi.kexec import KexecFlag
from pykexec.abi.x86.bootparam import screen_info
from pykexec.abi.x86.elf_boot import ELF_BOOT_MAGIC
from pykexec.cli.terms import PYKEXEC
from pykexec.errors import DoesNotFit, KexecError, NotSupported, UsageError
from pykexec.images.contents import Built, contents_bytes
from pykexec.images.identify import identify
from pykexec.images.kernel_image import KernelImage, UnservedImage
from pykexec.machine import PcFirmware, Unknown
from pykexec.memory.map import MemoryMap
from pykexec.memory.ranges import PhysRange
from pykexec.placement.kernel_rules import check_plan, refuse_broken
from pykexec.placement.plan import PlacementPlan
from pykexec.placement.plan_load import plan_load
from pykexec.placement.request import ImageKind, LoadRequest, Module
from pykexec.placement.syscall_choice import Syscall, choose_syscall
from pykexec.placement.x86.elf_image import ip_checksum
from tests.builders import (
    GIB,
    MIB,
    make_bzimage,
    make_elf,
    make_machine,
    make_multiboot,
    make_vmlinux,
    multiboot2_header,
    multiboot_header,
    ram,
    reserved,
    write,
)
from tests.conftest import Golden
from tests.placement import names
from tests.placement.golden import described, stub_params

ORACLE_MAP = MemoryMap.of(
    [
        *ram((0, 0x9FC00), (MIB, 0x7FFE0000), (4 * GIB, 6 * GIB)),
        *reserved((0x9FC00, 0xA0000), (0xF0000, MIB), (0x7FFE0000, 2 * GIB)),
    ]
)
"""The machine of the reference's golden vectors."""
INFO = names.MULTIBOOT_INFO
INITRD = Built(bytes(0x300001))
MACHINE = make_machine(ORACLE_MAP)


def image_of(folder: Path, data: bytes, kind: str | None = None) -> KernelImage:
    return replace(identify(write(folder, "k", data), kind), path="/boot/k")


def planned(image: KernelImage, **wishes: object) -> PlacementPlan:
    plan = plan_load(image, MACHINE, LoadRequest(**wishes))  # type: ignore[arg-type]
    refuse_broken(check_plan(plan, MACHINE))
    assert plan.flags == KexecFlag(0)
    return plan


def bytes_of(plan: PlacementPlan, name: str) -> bytes:
    item = plan.named(name)
    assert item is not None
    assert item.contents is not None
    return contents_bytes(item.contents, 16 * MIB)


def at(plan: PlacementPlan, name: str) -> PhysRange:
    item = plan.named(name)
    assert item is not None
    return item.range


# -- Linux by its 32-bit entry


def test_a_bzimage_by_its_32_bit_entry(tmp_path: Path, golden: Golden) -> None:
    """`-c -l --entry-32bit` + initrd of the reference: kernel at 0x1000000 and boot_params at
    0x3000 are as in kexec-tools; the initrd is higher, because the purgatory is smaller."""
    image = image_of(tmp_path, make_bzimage(bytes(0x10000), init_size=0x3378000), "bzImage")
    plan = planned(image, initrd=INITRD)
    assert at(plan, names.BOOT_PARAMS).start == 0x3000
    assert at(plan, names.KERNEL_32) == PhysRange.sized(0x1000000, 0x3378000)
    assert at(plan, names.INITRD).end == at(plan, names.PURGATORY).start == 0x7FFDE000
    golden("plan-bzimage-32.txt", described(plan))
    raw = bytes_of(plan, names.BOOT_PARAMS)
    assert raw[0x218:0x220] == struct.pack("<II", at(plan, names.INITRD).start, 0x300001)
    assert raw[0x1E8] == len(ORACLE_MAP.ranges)


OLD: dict[str, Any] = {"xloadflags": 0, "version": 0x202, "jump": 0x2A, "code32_start": 0x100000}


def test_a_kernel_that_cannot_move(tmp_path: Path, golden: Golden) -> None:
    image = image_of(tmp_path, make_bzimage(**OLD))
    plan = planned(image, append=("console=ttyS0",))
    assert at(plan, names.KERNEL_32).start == 0x100000
    assert at(plan, names.PURGATORY).end == 0x9F000
    golden("plan-bzimage-2.02.txt", described(plan))


@pytest.mark.parametrize("real_mode", [False, True])
def test_a_kernel_that_contradicts_itself(tmp_path: Path, real_mode: bool) -> None:
    image = image_of(tmp_path, make_bzimage(pref_address=0x40000000), "bzImage")
    with pytest.raises(DoesNotFit) as caught:
        planned(image, real_mode=real_mode)
    assert caught.value.message == (
        "the 32-bit kernel must be at 0x40000000 or above, and end below 0x38000000"
    )


@pytest.mark.parametrize("start", [0, 0x1000, 0x100000 + 0x3000])
def test_a_kernel_that_starts_in_real_mode_only(tmp_path: Path, start: int) -> None:
    """ipxe.lkrn: its header has no code32_start; --real-mode starts it."""
    data = make_bzimage(xloadflags=0, version=0x207, relocatable=0, code32_start=start)
    image = image_of(tmp_path, data)
    with pytest.raises(UnservedImage, match="can only start in real mode") as caught:
        planned(image)
    assert "pykexec-kexec --real-mode" in (caught.value.hint_in(PYKEXEC) or "")
    plan = planned(image, real_mode=True)
    assert at(plan, names.KERNEL_32).start == 0x100000


def test_the_entry_by_code32_start(tmp_path: Path) -> None:
    """For a kernel at 1 MiB; a relocatable one is entered at its start."""
    for relocatable, start, entry in ((0, 0x100000, 0), (0, 0x101230, 0x1230), (1, 0x101230, 0)):
        data = make_bzimage(xloadflags=0, relocatable=relocatable, code32_start=start)
        for real_mode in (False, True):
            plan = planned(image_of(tmp_path, data), real_mode=real_mode)
            there = at(plan, names.KERNEL_32).start + entry
            if real_mode:
                told = struct.unpack_from("<I", bytes_of(plan, names.SETUP_CODE), 0x214)[0]
            else:
                told = stub_params(plan).entry
            assert told == there


def test_a_command_line_too_long_for_an_old_kernel(tmp_path: Path) -> None:
    image = image_of(tmp_path, make_bzimage(**OLD))
    with pytest.raises(
        DoesNotFit, match="the command line has 300 bytes, but this kernel accepts only 255"
    ):
        planned(image, append=("x" * 300,))


def test_a_vmlinux_of_i386(tmp_path: Path, golden: Golden) -> None:
    image = image_of(tmp_path, make_vmlinux(bits=32, entry=0x1000100))
    plan = planned(image, initrd=INITRD)
    assert stub_params(plan).entry == 0x1000100
    assert at(plan, names.INITRD).end == 0x38000000
    golden("plan-vmlinux-i386.txt", described(plan))


# -- ELF


def elf_image(folder: Path, bits: int) -> KernelImage:
    loads = [(0x1000000, 0x1000000, b"\xf4" * 0x5000, 0x5000)]
    return image_of(folder, make_elf(loads, bits=bits, machine=62 if bits == 64 else 3))


@pytest.mark.parametrize("bits", [64, 32])
def test_an_elf_file(tmp_path: Path, golden: Golden, bits: int) -> None:
    """The golden vector `vmlinux ELF, style elf`: purgatory 0x1000, then the notes."""
    plan = planned(elf_image(tmp_path, bits), append=("hello",))
    assert at(plan, names.PURGATORY).start == 0x1000
    assert at(plan, names.BOOT_NOTES).start == at(plan, names.PURGATORY).end
    golden(f"plan-elf-{bits}.txt", described(plan))


def test_the_boot_notes(tmp_path: Path) -> None:
    raw = bytes_of(planned(elf_image(tmp_path, 64), append=("a b",)), names.BOOT_NOTES)
    magic, size, _, records = struct.unpack_from("<IIHH", raw)
    assert (magic, size, records) == (ELF_BOOT_MAGIC, len(raw), 3)
    assert ip_checksum(raw) == 0
    notes, where = [], 12
    while where < size:
        namesz, descsz, kind = struct.unpack_from("<III", raw, where)
        notes.append((kind, raw[where + 12 : where + 12 + descsz]))
        where += 12 + namesz + (descsz + 3 & ~3)
    assert [kind for kind, _ in notes] == [2, 3, 4]
    assert notes[0][1] == b"pykexec\0"
    assert notes[2][1] == b"a b\0"


def test_parts_that_share_a_page_are_one_segment(tmp_path: Path) -> None:
    """kexec-tools exits here: "Base address is not page aligned"."""
    loads = [
        (0x200010, 0x200010, b"a" * 0x20, 0x20),
        (0x200800, 0x200800, b"b" * 0x10, 0x1000),
        (0x202000, 0x202000, b"", 0x1000),
    ]
    plan = planned(image_of(tmp_path, make_elf(loads)))
    raw = bytes_of(plan, "elf-x86_64 image")
    assert raw == bytes(16) + b"a" * 0x20 + bytes(0x800 - 0x30) + b"b" * 0x10
    assert at(plan, "elf-x86_64 image") == PhysRange(0x200000, 0x202000)
    bss = plan.named("elf-x86_64 part 1")
    assert bss is not None
    assert (bss.range, bss.contents) == (PhysRange(0x202000, 0x203000), None)


def test_what_cannot_be_moved_and_has_no_room(tmp_path: Path) -> None:
    image = image_of(tmp_path, make_elf([(0x9F000, 0x9F000, b"a", 0x2000)]))
    with pytest.raises(DoesNotFit) as caught:
        planned(image)
    assert caught.value.message == (
        "elf-x86_64 image must be at 0x9f000..0xa1000, but not all of that is usable RAM"
    )
    assert caught.value.hint == "none of it is usable"
    image = image_of(tmp_path, make_elf([(0x7FFDF000, 0x7FFDF000, b"a", 0x2000)]))
    with pytest.raises(DoesNotFit) as caught:
        planned(image)
    assert caught.value.hint == "only 0x7ffdf000..0x7ffe0000 is usable"


def test_a_relocatable_one_is_moved(tmp_path: Path) -> None:
    image = image_of(tmp_path, make_elf([(0, 0, b"\xf4" * 64, 0x2000)], elf_type=3, entry=0x10))
    plan = planned(image)
    assert at(plan, "elf-x86_64 image").start == 2 * MIB
    assert stub_params(plan).entry == 2 * MIB + 0x10


def test_too_many_parts(tmp_path: Path) -> None:
    loads = [(MIB + n * 0x4000, 0, b"a", 16) for n in range(13)]
    with pytest.raises(DoesNotFit, match="/boot/k has 13 parts, but kexec_load accepts only 12"):
        planned(image_of(tmp_path, make_elf(loads)))


# -- multiboot

MODULES = (
    Module(Built(b"dom0" * 2000), "/boot/vmlinuz root=/dev/vda1"),
    Module(Built(b"initrd"), "/boot/initrd"),
)


def screen(**fields: int) -> bytes:
    found = screen_info.parse(bytes(64))
    for name, value in fields.items():
        found[name] = value
    built: bytes = screen_info.build(found)
    return built.ljust(4096, b"\0")


LINEAR = screen(
    orig_video_isVGA=0x70,
    lfb_width=1024,
    lfb_height=768,
    lfb_depth=32,
    lfb_base=0x80000000,
    ext_lfb_base=0x1,
    capabilities=2,
    lfb_linelength=4096,
    red_size=8,
    red_pos=16,
    green_size=8,
    green_pos=8,
    blue_size=8,
    blue_pos=0,
)
TEXT = screen(orig_video_isVGA=1, orig_video_cols=80, orig_video_lines=25)


@pytest.mark.parametrize("version", [1, 2])
def test_a_multiboot_image(tmp_path: Path, golden: Golden, version: int) -> None:
    header = multiboot_header(3) if version == 1 else multiboot2_header((6, 0, b""))
    image = image_of(tmp_path, make_multiboot(header))
    plan = planned(image, append=("loglvl=all",), modules=MODULES)
    golden(f"plan-multiboot-{version}.txt", described(plan))
    told = stub_params(plan)
    assert told.rax == (0x2BADB002 if version == 1 else 0x36D76289)
    assert told.rbx == at(plan, names.MULTIBOOT_INFO).start


def c_string(raw: bytes, base: int, addr: int) -> bytes:
    return raw[addr - base :].split(b"\0")[0]


def test_what_version_1_is_told(tmp_path: Path) -> None:
    image = image_of(tmp_path, make_multiboot(multiboot_header(7)))
    machine = replace(MACHINE, firmware=PcFirmware(boot_params=LINEAR))
    plan = plan_load(image, machine, LoadRequest(append=("x",), modules=MODULES))
    raw = bytes_of(plan, names.MULTIBOOT_INFO)
    base = at(plan, names.MULTIBOOT_INFO).start
    words = struct.unpack_from("<22I", raw)
    assert words[0] == 0x1 | 0x4 | 0x8 | 0x40 | 0x200 | 0x1000
    assert words[1:3] == (0x9FC00 // 1024, (0x7FFE0000 - MIB) // 1024)
    assert c_string(raw, base, words[4]) == b"/boot/k x"
    assert c_string(raw, base, words[16]).startswith(b"pykexec ")
    assert words[5] == 2
    for number, module in enumerate(MODULES):
        start, end, line, pad = struct.unpack_from("<4I", raw, words[6] - base + 16 * number)
        assert (end - start, pad) == (module.contents.size, 0)
        assert start == at(plan, f"module {number}").start
        assert c_string(raw, base, line) == module.line.encode()
    rows = [
        struct.unpack_from("<IQQI", raw, words[12] - base + where)
        for where in range(0, words[11], 24)
    ]
    assert rows == [
        (20, item.range.start, item.range.size, 1 if item.type.name == "RAM" else 2)
        for item in ORACLE_MAP.ranges
    ]
    assert struct.unpack_from("<QIIIBB", raw, 88) == (0x180000000, 4096, 1024, 768, 32, 1)
    assert raw[110:116] == bytes((16, 8, 8, 8, 0, 8))


def tags_of(raw: bytes) -> list[tuple[int, bytes]]:
    total, zero = struct.unpack_from("<II", raw)
    assert (total, zero) == (len(raw), 0)
    found, where = [], 8
    while where < total:
        kind, size = struct.unpack_from("<II", raw, where)
        found.append((kind, raw[where + 8 : where + size]))
        where += size + 7 & ~7
    assert found[-1] == (0, b"")
    return found


def test_what_version_2_is_told(tmp_path: Path) -> None:
    """In kexec-tools' order: meminfo, mmap, load base, command line, name, framebuffer,
    modules, end."""
    wish = struct.pack("<4I", 0x1000000, 0x3FFFFFFF, 0x200000, 0)
    header = multiboot2_header((10, 0, wish), (5, 0, bytes(12)))
    image = image_of(tmp_path, make_multiboot(header, addr=0x200000))
    machine = replace(MACHINE, firmware=PcFirmware(boot_params=LINEAR))
    plan = plan_load(image, machine, LoadRequest(modules=MODULES))
    found = tags_of(bytes_of(plan, names.MULTIBOOT_INFO))
    assert [kind for kind, _ in found] == [4, 6, 21, 1, 2, 8, 3, 3, 0]
    tags = dict(found)
    assert struct.unpack("<II", tags[4]) == (0x9FC00 // 1024, (0x7FFE0000 - MIB) // 1024)
    assert struct.unpack_from("<II", tags[6]) == (24, 0)
    assert len(tags[6]) == 8 + 24 * len(ORACLE_MAP.ranges)
    assert struct.unpack("<I", tags[21]) == (0x1000000,)
    assert tags[1] == b"/boot/k\0"
    assert struct.unpack_from("<QIIIBB", tags[8]) == (0x180000000, 4096, 1024, 768, 32, 1)
    assert tags[8][24:] == bytes((16, 8, 8, 8, 0, 8))
    first = next(body for kind, body in found if kind == 3)
    start, end = struct.unpack_from("<II", first)
    assert (start, end - start) == (at(plan, "module 0").start, 8000)
    assert first[8:] == b"/boot/vmlinuz root=/dev/vda1\0"
    assert at(plan, "multiboot2 image").start == 0x1000000
    assert stub_params(plan).entry == 0x1000000


def test_a_relocatable_image_that_wants_to_lie_high(tmp_path: Path) -> None:
    wish = struct.pack("<4I", 0x200000, 0x3FFFFFFF, 0x200000, 2)
    image = image_of(tmp_path, make_multiboot(multiboot2_header((10, 0, wish))))
    plan = planned(image)
    assert at(plan, "multiboot2 image").start == 0x3FE00000


def test_a_relocatable_image_that_is_linked_within_a_page(tmp_path: Path) -> None:
    """It is moved to the start of a page, not by a whole number of pages."""
    wish = struct.pack("<4I", 0x200000, 0x3FFFFFFF, 0x200, 1)
    image = image_of(tmp_path, make_multiboot(multiboot2_header((10, 0, wish)), addr=0x100200))
    plan = planned(image)
    assert at(plan, "multiboot2 image") == PhysRange(0x200000, 0x203000)
    assert stub_params(plan).entry == 0x200000
    assert dict(tags_of(bytes_of(plan, names.MULTIBOOT_INFO)))[21] == struct.pack("<I", 0x200000)


def test_a_relocatable_image_that_may_only_lie_low(tmp_path: Path) -> None:
    wish = struct.pack("<4I", 0x8000, 0x9FFFF, 0x1000, 0)
    image = image_of(tmp_path, make_multiboot(multiboot2_header((10, 0, wish))))
    assert at(planned(image), "multiboot2 image") == PhysRange(0x8000, 0xB000)


@pytest.mark.parametrize(
    ("boot_params", "warning"),
    [
        (TEXT, None),
        (LINEAR, None),
        (screen(orig_video_isVGA=0), "this machine has none"),
        (None, "the screen is unknown: not read"),
    ],
)
def test_the_framebuffer(tmp_path: Path, boot_params: bytes | None, warning: str | None) -> None:
    image = image_of(tmp_path, make_multiboot(multiboot2_header((5, 0, bytes(12)))))
    machine = (
        replace(MACHINE, firmware=PcFirmware(boot_params=boot_params)) if boot_params else MACHINE
    )
    plan = plan_load(image, machine, LoadRequest())
    tags = dict(tags_of(bytes_of(plan, names.MULTIBOOT_INFO)))
    assert (8 in tags) == (warning is None)
    assert bool(plan.warnings) == bool(warning)
    assert all((warning or "") in text for text in plan.warnings)
    if boot_params is TEXT:
        assert struct.unpack_from("<QIIIBB", tags[8]) == (0xB8000, 160, 80, 25, 16, 2)


RSDP_1 = b"RSD PTR \x00OEMID \x00" + struct.pack("<I", 0x7FFE0000)
RSDP_2 = RSDP_1[:15] + b"\x02" + RSDP_1[16:] + struct.pack("<IQI", 36, 0x7FFE1000, 0)
NO_RSDT = RSDP_2[:16] + bytes(4) + RSDP_2[20:]


@pytest.mark.parametrize(
    ("table", "given"),
    [
        (RSDP_1, {14: RSDP_1}),
        (RSDP_2, {14: RSDP_2[:20], 15: RSDP_2}),
        (NO_RSDT, {15: NO_RSDT}),
        (Unknown("not read"), {}),
    ],
)
@pytest.mark.parametrize("required", [None, 14, 15])
def test_the_acpi_tags(
    tmp_path: Path, table: bytes | Unknown, given: dict[int, bytes], required: int | None
) -> None:
    """Passed to every image if known; an image that requires an unknown one is refused, but not
    called damaged."""
    wish = () if required is None else ((1, 0, struct.pack("<I", required)),)
    image = image_of(tmp_path, make_multiboot(multiboot2_header(*wish)))
    machine = replace(MACHINE, firmware=PcFirmware(acpi_rsdp_table=table))
    if required is None or required in given:
        tags = dict(tags_of(bytes_of(plan_load(image, machine, LoadRequest()), INFO)))
        assert {kind: tags[kind] for kind in (14, 15) if kind in tags} == given
        return
    with pytest.raises(UnservedImage, match=f"requires information of type {required} ") as caught:
        plan_load(image, machine, LoadRequest())
    assert "RSDP" in caught.value.message


def test_a_required_framebuffer(tmp_path: Path) -> None:
    wish = (1, 0, struct.pack("<2I", 8, 21))
    image = image_of(tmp_path, make_multiboot(multiboot2_header(wish)))
    plan = plan_load(image, replace(MACHINE, firmware=PcFirmware(boot_params=TEXT)), LoadRequest())
    tags = dict(tags_of(bytes_of(plan, INFO)))
    assert 8 in tags
    assert tags[21] == struct.pack("<I", 0x100000)
    with pytest.raises(UnservedImage, match=r"type 8 \(framebuffer\): .* unknown: not read"):
        plan_load(image, MACHINE, LoadRequest())


# -- what is refused

OTHERS = {
    "bzImage": make_bzimage(xloadflags=0),
    "vmlinux-i386": make_vmlinux(bits=32),
    "elf-x86_64": make_elf(),
    "elf-x86": make_elf(bits=32, machine=3),
    "multiboot": make_multiboot(),
    "multiboot2": make_multiboot(multiboot2_header()),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("kind", [ImageKind.CRASH, ImageKind.CRASH_BY_NORMAL])
def test_only_linux_x86_64_captures_a_dump(tmp_path: Path, name: str, kind: ImageKind) -> None:
    """kexec-tools loads an ELF or multiboot image with -p, which captures nothing."""
    machine = make_machine(crash_kernel=[PhysRange(256 * MIB, 512 * MIB)])
    with pytest.raises(NotSupported) as caught:
        plan_load(image_of(tmp_path, OTHERS[name]), machine, LoadRequest(kind))
    assert caught.value.message == (
        f"/boot/k is of type {name}, but a Linux kernel for x86_64 is needed"
    )


@pytest.mark.parametrize("name", OTHERS)
def test_what_an_image_would_not_be_told_is_an_error(tmp_path: Path, name: str) -> None:
    takes_initrd = name in ("bzImage", "vmlinux-i386")
    takes_modules = name.startswith("multiboot")
    image = image_of(tmp_path, OTHERS[name])
    if not takes_initrd:
        with pytest.raises(UsageError) as caught:
            planned(image, initrd=INITRD)
        assert caught.value.message == f"an initrd has no effect: /boot/k is of type {name}"
    if not takes_modules:
        with pytest.raises(UsageError) as caught:
            planned(image, modules=MODULES)
        assert caught.value.message == f"a module has no effect: /boot/k is of type {name}"


@pytest.mark.parametrize("name", OTHERS)
def test_entry_and_checks_and_window(tmp_path: Path, name: str) -> None:
    image = image_of(tmp_path, OTHERS[name])
    plain = planned(image, checks=False)
    assert not stub_params(plain).checks
    assert stub_params(plain).n_regions == 0
    inside = next(item for item in plain if item.name != names.PURGATORY)
    assert planned(image, entry=inside.range.start).entry == inside.range.start
    with pytest.raises(KexecError):
        planned(image, mem_min=4 * GIB)


def test_an_empty_module_is_told_of_and_not_digested(tmp_path: Path) -> None:
    image = image_of(tmp_path, make_multiboot(multiboot_header(3)))
    plan = planned(image, modules=(Module(Built(b""), "/empty"),))
    assert at(plan, "module 0").size == 0x1000
    assert stub_params(plan).n_regions == 2, "the image and what it is told"
    raw, where = bytes_of(plan, names.MULTIBOOT_INFO), at(plan, names.MULTIBOOT_INFO).start
    count, address = struct.unpack_from("<II", raw, 20)
    start, end = struct.unpack_from("<II", raw, address - where)
    assert (count, start, end) == (1, at(plan, "module 0").start, start)


def test_a_linux_kernel_takes_no_modules(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        planned(image_of(tmp_path, make_bzimage()), modules=MODULES)
    assert caught.value.message == "a module has no effect: /boot/k is of type bzImage64"
    assert caught.value.hint_in(PYKEXEC) == "use --module only with multiboot images"


def test_kexec_file_load_knows_no_modules() -> None:
    with pytest.raises(UsageError) as caught:
        choose_syscall(MACHINE, LoadRequest(modules=MODULES), Syscall.FILE)
    assert caught.value.message == (
        "a module has no effect in kexec_file_load: the kernel places the image"
    )


# -- while a 32-bit kernel runs

I386 = replace(MACHINE, architecture="i686", cpu_flags=frozenset({"lm", "pae"}))


@pytest.mark.parametrize("name", ["bzImage", "vmlinux-i386", "elf-x86", "multiboot"])
def test_from_a_32_bit_kernel_the_purgatory_has_page_tables(tmp_path: Path, name: str) -> None:
    plan = plan_load(image_of(tmp_path, OTHERS[name]), I386, LoadRequest())
    where = at(plan, names.PURGATORY)
    tables = stub_params(plan).page_tables
    assert where.start < tables < where.end <= 4 * GIB
    raw = bytes_of(plan, names.PURGATORY)[tables - where.start :]
    entries = struct.unpack(f"<{len(raw) // 8}Q", raw)
    assert entries[0] == tables + 0x1003
    assert entries[512:516] == tuple(tables + number * 0x1000 + 3 for number in range(2, 6))
    assert entries[1024:] == tuple(addr | 0x83 for addr in range(0, 4 * GIB, 2 * MIB))


def test_from_a_64_bit_kernel_it_has_none(tmp_path: Path) -> None:
    assert stub_params(planned(image_of(tmp_path, OTHERS["bzImage"]))).page_tables == 0


@pytest.mark.parametrize("data", [make_bzimage(), make_vmlinux(), make_elf()])
def test_from_a_32_bit_kernel_only_by_a_32_bit_entry(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(NotSupported, match="the running kernel is a 32-bit kernel"):
        plan_load(image_of(tmp_path, data), I386, LoadRequest())


def test_a_processor_without_64_bit_mode(tmp_path: Path) -> None:
    machine = replace(I386, cpu_flags=frozenset({"pae"}))
    with pytest.raises(NotSupported, match="no 64-bit mode, in which the purgatory runs"):
        plan_load(image_of(tmp_path, OTHERS["bzImage"]), machine, LoadRequest())
