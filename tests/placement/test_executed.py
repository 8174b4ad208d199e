"""Complete plans in a PC's memory, executed: the stub checks everything and starts a test kernel,
which reads what it was passed and records it."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("unicorn", reason="unicorn is not installed: nothing can be executed")

from pykexec.images.contents import Built
from pykexec.images.identify import identify
from pykexec.machine import Machine
from pykexec.memory.map import MemoryMap
from pykexec.placement.plan import PlacementPlan
from pykexec.placement.plan_load import plan_load
from pykexec.placement.request import LoadRequest, Module
from pykexec.placement.x86.stub import X86StubJob
from tests.builders import (
    MIB,
    make_bzimage,
    make_elf,
    make_machine,
    make_multiboot,
    make_vmlinux,
    multiboot2_header,
    ram,
    reserved,
    write,
)
from tests.purgatory.emulated import PAGE_TABLES, SECOND, End, Pc

MAP = MemoryMap.of(
    [
        *ram((0, 0x9F000), (MIB, PAGE_TABLES), (PAGE_TABLES + MIB, 15 * MIB)),
        *reserved((PAGE_TABLES, PAGE_TABLES + MIB)),
    ]
)
NOTEBOOK = 15 * MIB + 0x1000
"""Not in the map: nothing is placed here."""
MACHINE = make_machine(MAP, totalram=64 * MIB)
I386_MACHINE = replace(MACHINE, architecture="i686", cpu_flags=frozenset({"lm"}))
TRAMPOLINE = NOTEBOOK + 0x1000
TEXT = b"hell"
MODULE = Module(Built(b"MODULE-0" * 600), "/m hell")


def kernel_32(*probes: bytes) -> bytes:
    """Each probe loads a word into EAX; all are stored."""
    rows = (
        code + b"\xa3" + struct.pack("<I", NOTEBOOK + 4 * number)
        for number, code in enumerate(probes)
    )
    return b"".join(rows) + b"\xfa\xf4"


def run(plan: PlacementPlan, count: int, *, from_32: bool = False) -> tuple[int, ...]:
    return struct.unpack(f"<{count}I", executed(plan, from_32=from_32).read(NOTEBOOK, 4 * count))


def executed(plan: PlacementPlan, *, from_32: bool = False) -> Pc:
    """Entered as from a 64-bit kernel, or from a 32-bit one, which adds a stub before the stub."""
    pc = Pc()
    for item in plan:
        data = b"".join(bytes(chunk) for chunk in item.contents.chunks()) if item.contents else b""
        pc.write(item.range.start, data.ljust(item.range.size, b"\0"))
    if from_32:
        job = X86StubJob(1, plan.entry, checks=False, entry_32=True)
        pc.write(TRAMPOLINE, job.encode(TRAMPOLINE))
        assert pc.run(TRAMPOLINE, plan.entry) is End.STARTED
        pc.serial.clear()
    pc.uc.emu_start(plan.entry, 0, timeout=60 * SECOND)
    assert pc.text == "\r\npykexec: checking\r\npykexec: starting\r\n"
    assert pc.faults == []
    return pc


def planned(
    folder: Path,
    data: bytes,
    kind: str | None = None,
    machine: Machine = MACHINE,
    **wishes: object,
) -> PlacementPlan:
    image = replace(identify(write(folder, "k", data), kind), path="/k")
    request = LoadRequest(append=("hello",), **wishes)  # type: ignore[arg-type]
    return plan_load(image, machine, request)


def word(raw: bytes) -> int:
    return int.from_bytes(raw[:4], "little")


def test_multiboot_1(tmp_path: Path) -> None:
    code = kernel_32(
        b"",  # EAX itself
        b"\x8b\x03",  # flags
        b"\x8b\x43\x04",  # mem_lower
        b"\x8b\x4b\x10\x8b\x41\x03",  # "/k hello", after the name
        b"\x8b\x4b\x18\x8b\x09\x8b\x01",  # the first module's first word
        b"\x8b\x4b\x18\x8b\x49\x08\x8b\x41\x03",  # its string, after the name
    )
    plan = planned(tmp_path, make_multiboot(code=code), modules=(MODULE,))
    assert run(plan, 6) == (0x2BADB002, 0x24D, 0x9F000 >> 10, word(TEXT), word(b"MODU"), word(TEXT))


def test_multiboot_2(tmp_path: Path) -> None:
    wish = struct.pack("<4I", 0x400000, 0xFFFFFF, 0x100000, 2)
    header = multiboot2_header((10, 0, wish))
    code = kernel_32(
        b"",
        b"\x8b\x03",  # total_size
        b"\x8b\x43\x08",  # the first tag: BASIC_MEMINFO
        b"\x8b\x43\x10",  # its mem_lower
        b"\xe8\0\0\0\0\x58",  # where it runs: EIP after a call to the next instruction
    )
    plan = planned(tmp_path, make_multiboot(header, code))
    info = plan.named("multiboot information")
    image = plan.named("multiboot2 image")
    assert info is not None
    assert image is not None
    assert image.range.start == 0xE00000
    at = code.index(b"\xe8\0\0\0\0") + 5
    assert run(plan, 5) == (0x36D76289, info.segment.bufsz, 4, 0x9F000 >> 10, 0xE00000 + at)


def test_linux_by_its_32_bit_entry(tmp_path: Path) -> None:
    """ESI is the zero page, which has the address of the command line."""
    code = kernel_32(
        b"\x8b\x86\x02\x02\0\0",  # HdrS
        b"\x8b\x8e\x28\x02\0\0\x8b\x01",  # cmd_line_ptr
        b"\x0f\xb6\x86\xe8\x01\0\0",  # e820_entries
        b"\x89\xe8",  # EBP
        b"\x8b\x8e\x18\x02\0\0\x8b\x01",  # ramdisk_image
    )
    payload = code.ljust(0x3000, b"\xf4")
    data = make_bzimage(payload, init_size=0x100000, pref_address=0x400000)
    plan = planned(tmp_path, data, "bzImage", initrd=Built(b"INITRD" * 900))
    found = run(plan, 5)
    assert found == (word(b"HdrS"), word(TEXT), len(MAP.ranges), 0, word(b"INIT"))


def test_linux_by_its_real_mode_entry(tmp_path: Path) -> None:
    """DS is the segment of the setup code; FS is set to that of the command line."""
    code = (
        b"\xa1\x02\x02\xa3\0\x08"  # "Hd" of HdrS
        b"\x66\xa1\x28\x02\x66\xc1\xe8\x04\x8e\xe0\x64\x66\xa1\0\0"  # cmd_line_ptr
        b"\x66\xa3\x02\x08"
        b"\x66\xa1\x14\x02\x66\xa3\x06\x08"  # code32_start
        b"\xfa\xf4"
    )
    data = bytearray(make_bzimage(setup_sects=4, pref_address=0x400000))
    data[0x26C : 0x26C + len(code)] = code
    plan = planned(tmp_path, bytes(data), "bzImage", real_mode=True, initrd=Built(b"INITRD"))
    setup = plan.named("real-mode setup code, command line")
    assert setup is not None
    pc = executed(plan)
    found = struct.unpack("<2s4sI", pc.read(setup.range.start + 0x800, 10))
    assert found == (b"Hd", TEXT, 0x400000)


def test_a_vmlinux_of_i386(tmp_path: Path) -> None:
    code = kernel_32(b"\x8b\x86\x02\x02\0\0", b"\x0f\xb6\x86\x10\x02\0\0")
    data = make_vmlinux([(0x400000, code, 0x8000)], bits=32)
    assert run(planned(tmp_path, data), 2) == (word(b"HdrS"), 0xD0)


def test_an_elf_file_of_32_bits(tmp_path: Path) -> None:
    """The notes are the first argument of a C function."""
    code = kernel_32(b"\x8b\x4c\x24\x04\x8b\x01")
    data = make_elf([(0x400000, 0x400000, code, 0x8000)], bits=32, machine=3)
    assert run(planned(tmp_path, data), 1) == (0x0E1FB007,)


STORE_64 = b"\x89\x04\x25" + struct.pack("<I", NOTEBOOK) + b"\xfa\xf4"


def test_an_elf_file_of_64_bits(tmp_path: Path) -> None:
    """RDI points to the notes."""
    data = make_elf([(0x400000, 0x400000, b"\x8b\x07" + STORE_64, 0x8000)])
    assert run(planned(tmp_path, data), 1) == (0x0E1FB007,)


def test_a_vmlinux(tmp_path: Path) -> None:
    """Moved by 4 MiB from its link address, with its entry; RSI is the zero page."""
    code = bytes(0x40) + b"\x8b\x86\x02\x02\0\0" + STORE_64
    data = make_vmlinux([(0x400000, code, 0x8000)], entry=0x400040)
    plan = planned(tmp_path, data, mem_min=0x500000)
    kernel = plan.named("kernel")
    assert kernel is not None
    assert kernel.range.start == 0x600000
    assert run(plan, 1) == (word(b"HdrS"),)


def test_from_a_32_bit_kernel(tmp_path: Path) -> None:
    """The purgatory is entered without paging, works in 64-bit mode, and leaves it again."""
    code = kernel_32(b"\x8b\x86\x02\x02\0\0", b"\x0f\x20\xc0")
    data = make_bzimage(code.ljust(0x3000, b"\xf4"), xloadflags=0, pref_address=0x400000)
    plan = planned(tmp_path, data, machine=I386_MACHINE)
    assert run(plan, 2, from_32=True) == (word(b"HdrS"), 0x11)


def test_a_multiboot_image_from_a_32_bit_kernel(tmp_path: Path) -> None:
    code = kernel_32(b"", b"\x8b\x4b\x10\x8b\x41\x03")
    plan = planned(tmp_path, make_multiboot(code=code), machine=I386_MACHINE)
    assert run(plan, 2, from_32=True) == (0x2BADB002, word(TEXT))
