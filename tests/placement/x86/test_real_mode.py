"""A bzImage by its real-mode entry: the complete plan, the contents of the setup code's segment,
and what is refused."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest

from pykexec.errors import DoesNotFit, KexecError, NotSupported, UsageError
from pykexec.images.contents import Built
from pykexec.machine import Efi, Machine, PcFirmware
from pykexec.memory.map import MemoryMap
from pykexec.placement.plan import PlacementPlan
from pykexec.placement.plan_load import plan_load
from pykexec.placement.request import ImageKind, LoadRequest
from pykexec.placement.syscall_choice import Syscall, choose_syscall
from pykexec.purgatory import real_mode_code
from tests.builders import GIB, MIB, make_bzimage, make_machine, make_vmlinux, ram
from tests.conftest import Golden
from tests.placement import names
from tests.placement.golden import described, stub_params
from tests.placement.x86.test_normal_load import INITRD, MACHINE, at, bytes_of, image_of

HEAP_END = 0xE000


def planned(
    folder: Path, data: bytes, machine: Machine = MACHINE, of: str = "bzImage", **wishes: object
) -> PlacementPlan:
    request = LoadRequest(real_mode=True, **wishes)  # type: ignore[arg-type]
    return plan_load(image_of(folder, data, of), machine, request)


def test_the_whole_plan(tmp_path: Path, golden: Golden) -> None:
    """`-c -l --real-mode` + initrd of the reference: setup code at 0x3000 and kernel at 0x1000000
    are as in kexec-tools."""
    data = make_bzimage(bytes(0x10000), setup_sects=0x27, init_size=0x3378000)
    plan = planned(tmp_path, data, initrd=INITRD, append=("root=/dev/vda1 ro",))
    golden("plan-bzimage-real-mode.txt", described(plan))
    assert at(plan, names.SETUP_CODE).start == 0x3000
    assert at(plan, names.KERNEL_32).start == 0x1000000


@pytest.mark.parametrize(("version", "jump"), [(0x202, 0x2A), (0x20F, 0x6A)])
def test_the_header_is_filled_in_and_no_byte_more(tmp_path: Path, version: int, jump: int) -> None:
    """Code directly follows the end of an old header."""
    data = bytearray(make_bzimage(setup_sects=4, version=version, jump=jump))
    end = 0x202 + jump
    data[end : 5 * 512] = (bytes(range(256)) * 10)[end : 5 * 512]
    plan = planned(tmp_path, bytes(data), initrd=INITRD, append=("hello world",))
    raw, setup = bytes_of(plan, names.SETUP_CODE), at(plan, names.SETUP_CODE)
    assert raw[:0x1F1] == data[:0x1F1]
    assert raw[end : 5 * 512] == data[end : 5 * 512]
    fields = {
        "vid_mode": struct.unpack_from("<H", raw, 0x1FA)[0],
        "type_of_loader": raw[0x210],
        "loadflags": raw[0x211],
        "code32_start": struct.unpack_from("<I", raw, 0x214)[0],
        "ramdisk": struct.unpack_from("<II", raw, 0x218),
        "heap_end_ptr": struct.unpack_from("<H", raw, 0x224)[0],
        "cmd_line_ptr": struct.unpack_from("<I", raw, 0x228)[0],
    }
    assert fields == {
        "vid_mode": 0xFFFF,
        "type_of_loader": 0xD0,
        "loadflags": 0x81,
        "code32_start": at(plan, names.KERNEL_32).start,
        "ramdisk": (at(plan, names.INITRD).start, INITRD.size),
        "heap_end_ptr": HEAP_END - 0x200,
        "cmd_line_ptr": setup.start + HEAP_END,
    }
    assert raw[HEAP_END : HEAP_END + 12] == b"hello world\0"
    told = stub_params(plan)
    assert told.entry == told.rdi == setup.start + len(raw) - len(real_mode_code())
    assert raw[-len(real_mode_code()) :] == real_mode_code()
    assert (told.rax, told.rbx) == (HEAP_END, setup.start >> 4)


def test_bios_data_and_ebda_are_spared(tmp_path: Path) -> None:
    """Neither the first page nor the one with the start of the EBDA is used."""
    enough, too_little = (
        make_machine(MemoryMap.of(ram((0, end), (MIB, GIB)))) for end in (0x12C00, 0x11C00)
    )
    assert at(planned(tmp_path, make_bzimage(), enough), names.SETUP_CODE).end == 0x12000
    with pytest.raises(DoesNotFit):
        planned(tmp_path, make_bzimage(), too_little)
    window = planned(tmp_path, make_bzimage(), enough, mem_min=0, mem_max=0x1FFFFFFF)
    assert min(item.range.start for item in window) >= 0x1000


def test_a_word_about_disks(tmp_path: Path) -> None:
    told = planned(tmp_path, make_bzimage()).warnings
    assert told == (
        "the setup code reads from disks through the BIOS, which may wait forever: add "
        "edd=off to avoid that",
    )
    assert planned(tmp_path, make_bzimage(), append=("edd=off",)).warnings == ()


REFUSALS: dict[str, tuple[bytes, str, dict[str, object], type[KexecError], str]] = {
    "64-bit entry": (
        make_bzimage(),
        "bzImage64",
        {},
        UsageError,
        "/boot/k is of type bzImage64, which has no real-mode entry",
    ),
    "vmlinux of i386": (
        make_vmlinux(bits=32),
        "vmlinux-i386",
        {},
        UsageError,
        "/boot/k is of type vmlinux-i386, which has no real-mode entry",
    ),
    "capture kernel": (
        make_bzimage(),
        "bzImage",
        {"kind": ImageKind.CRASH},
        UsageError,
        "a capture kernel runs in the crash region",
    ),
    "old protocol": (
        make_bzimage(version=0x201, jump=0x2A),
        "bzImage",
        {},
        NotSupported,
        "/boot/k has 2.01",
    ),
    "too much setup code": (
        make_bzimage(setup_sects=64),
        "bzImage",
        {},
        NotSupported,
        "has 2.15 and 0x8200",
    ),
    "long command line": (
        make_bzimage(cmdline_size=0xFFFF),
        "bzImage",
        {"append": ("x" * 0x2000,)},
        DoesNotFit,
        "the command line has 8192 bytes, but only 8191 fit after the real-mode stack",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_refused(tmp_path: Path, name: str) -> None:
    data, image_type, wishes, error, message = REFUSALS[name]
    with pytest.raises(error) as caught:
        planned(tmp_path, data, MACHINE, image_type, **wishes)
    assert message in caught.value.message


def test_a_machine_without_a_bios(tmp_path: Path) -> None:
    machine = replace(MACHINE, firmware=PcFirmware(efi=Efi()))
    with pytest.raises(NotSupported, match="this machine was booted by EFI"):
        planned(tmp_path, make_bzimage(), machine)


def test_only_kexec_load_can(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the real-mode entry has no effect"):
        choose_syscall(MACHINE, LoadRequest(real_mode=True), Syscall.FILE)


def test_a_module_is_for_multiboot(tmp_path: Path) -> None:
    from pykexec.placement.request import Module

    with pytest.raises(UsageError, match="a module has no effect"):
        planned(tmp_path, make_bzimage(), modules=(Module(Built(b"x"), "x"),))
