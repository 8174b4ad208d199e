"""The stub's other entries, executed: a small test kernel records the state it finds."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

pytest.importorskip("unicorn", reason="unicorn is not installed: the stub cannot be executed")

from unicorn import x86_const as x86

from pykexec.purgatory import (
    STUB_MEMSZ,
    STUB_SIZE,
    Region,
    StubFlag,
    StubParams,
    stub_image,
    tables,
)
from pykexec.purgatory.x86_64.paging import identity_map

from .emulated import BOOT_PARAMS, COM1, ENTRY, SECOND, STUB, End, Pc

NOTES = 0x310000
"""Where the test kernel writes its words."""

PROBES_32: dict[str, bytes] = {
    "eax": b"",
    "ebx": b"\x89\xd8",
    "ecx": b"\x89\xc8",
    "edx": b"\x89\xd0",
    "esi": b"\x89\xf0",
    "edi": b"\x89\xf8",
    "ebp": b"\x89\xe8",
    "esp": b"\x89\xe0",
    "return address": b"\x8b\x04\x24",
    "argument": b"\x8b\x44\x24\x04",
    "cs": b"\x8c\xc8",
    "ds": b"\x8c\xd8",
    "es": b"\x8c\xc0",
    "ss": b"\x8c\xd0",
    "fs": b"\x8c\xe0",
    "gs": b"\x8c\xe8",
    "cr0": b"\x0f\x20\xc0",
    "cr4": b"\x0f\x20\xe0",
    "eflags": b"\x9c\x58",
    "inc eax": b"\x31\xc0\x40",  # in 64-bit mode 0x40 is a prefix, and EAX stays 0
    "efer": b"\xb9\x80\x00\x00\xc0\x0f\x32",
}
"""Code that loads each word into EAX, which is then stored. 32-bit code."""


def kernel_32() -> bytes:
    stores = (
        code + b"\xa3" + struct.pack("<I", NOTES + 4 * number)
        for number, code in enumerate(PROBES_32.values())
    )
    return b"".join(stores) + b"\xfa\xf4"


def started(params: StubParams, kernel: bytes, at: int = STUB) -> Pc:
    pc = Pc()
    pc.write(at, stub_image(params))
    pc.write(at + STUB_SIZE, b"\xa5" * (STUB_MEMSZ - STUB_SIZE))
    pc.write(ENTRY, kernel)
    pc.uc.emu_start(at, 0, timeout=60 * SECOND)
    assert pc.text.endswith("pykexec: starting\r\n")
    assert pc.faults == []
    assert pc.own_writes == []
    return pc


def params(boot_params: int = 0, rax: int = 0, rbx: int = 0, rdi: int = 0) -> StubParams:
    return StubParams(
        boot_params,
        ENTRY,
        serial_port=COM1,
        flags=StubFlag.ENTRY_32,
        rax=rax,
        rbx=rbx,
        rdi=rdi,
    )


@pytest.mark.parametrize("at", [STUB, 0x1000, 0xE00000])
@pytest.mark.parametrize(
    "registers",
    [
        {"boot_params": BOOT_PARAMS},
        {"rax": 0x2BADB002, "rbx": 0x9500},
        {"rax": 0x36D76289, "rbx": 0xFFFFFFF8},
        {"rdi": 0xA000},
    ],
    ids=["linux", "multiboot", "multiboot 2", "elf notes"],
)
def test_a_32_bit_entry(at: int, registers: dict[str, int]) -> None:
    pc = started(params(**registers), kernel_32(), at)
    raw = struct.unpack(f"<{len(PROBES_32)}I", pc.read(NOTES, 4 * len(PROBES_32)))
    found = dict(zip(PROBES_32, raw, strict=True))
    assert pc.uc.reg_read(x86.UC_X86_REG_IDTR)[2] == 0, "no gate of 64-bit mode is left"
    stack = found.pop("esp")
    assert at < stack <= at + STUB_MEMSZ
    assert not found.pop("eflags") & 0x600, "IF and DF are clear"
    assert found == {
        "eax": registers.get("rax", 0),
        "ebx": registers.get("rbx", 0),
        "ecx": 0,
        "edx": 0,
        "esi": registers.get("boot_params", 0),
        "edi": registers.get("rdi", 0),
        "ebp": 0,
        "return address": 0,
        "argument": registers.get("rdi", 0),
        "cs": 0x10,
        **dict.fromkeys(("ds", "es", "ss", "fs", "gs"), 0x18),
        "cr0": 0x11,
        "cr4": 0,
        "inc eax": 1,
        "efer": 0,
    }


def test_the_64_bit_entry_of_what_is_not_linux() -> None:
    told = StubParams(
        boot_params=0,
        entry=ENTRY,
        serial_port=COM1,
        rax=0x1122334455667788,
        rbx=0x99AABBCCDDEEFF00,
        rdi=0xA000,
    )
    pc = Pc()
    pc.write(STUB, stub_image(told))
    assert pc.run(STUB) is End.STARTED
    registers = {name: pc.register(name) for name in ("RAX", "RBX", "RDI", "RSI", "RBP", "R8")}
    assert registers == {
        "RAX": told.rax,
        "RBX": told.rbx,
        "RDI": 0xA000,
        "RSI": 0,
        "RBP": 0,
        "R8": 0,
    }
    assert (pc.register("CS"), pc.register("SS")) == (0x10, 0x18)


def test_entered_by_a_32_bit_kernel() -> None:
    """Without paging, as another stub leaves the machine; checks and entry are then those of 64-bit
    mode."""
    at, page_tables, kernel = STUB + 0x4000, 0x400000, ENTRY + 0x1000
    records = tables([Region.of(kernel, b"\xfa\xf4")], ())
    told = StubParams(
        boot_params=BOOT_PARAMS, entry=kernel, serial_port=COM1, page_tables=page_tables
    ).with_tables(records, at=at + STUB_MEMSZ, n_regions=1)
    pc = Pc()
    pc.write(at, stub_image(told))
    pc.write(at + STUB_MEMSZ, records)
    pc.write(page_tables, identity_map(page_tables))
    pc.write(kernel, b"\xfa\xf4")
    pc.write(STUB, stub_image(replace(params(boot_params=BOOT_PARAMS), entry=at)))
    assert pc.run(entry=kernel) is End.STARTED
    assert pc.text.splitlines()[-2:] == ["pykexec: checking", "pykexec: starting"]
    assert pc.faults == []
    assert (pc.register("CS"), pc.register("SS"), pc.register("RSI")) == (0x10, 0x18, BOOT_PARAMS)
    assert pc.register("CR3") == page_tables
    assert pc.uc.reg_read(x86.UC_X86_REG_MSR, 0xC0000080) & 0x500 == 0x500, "long mode is active"
