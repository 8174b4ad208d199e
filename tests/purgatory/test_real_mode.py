"""The path from the stub to real mode, executed: test setup code records the state it finds.

unicorn executes the whole path, through 32-bit and 16-bit protected mode. It has no BIOS:
tests/vm/test_real_mode.py tests that one still works.
"""

from __future__ import annotations

import struct

import pytest

pytest.importorskip("unicorn", reason="unicorn is not installed: the stub cannot be executed")

from unicorn import UC_HOOK_MEM_WRITE
from unicorn import x86_const as x86

from pykexec.purgatory import StubFlag, StubParams, real_mode_code, stub_image

from .emulated import COM1, SECOND, STUB, Pc

NOTES = 0x800
"""In the setup code's segment."""
PROBES: dict[str, bytes] = {
    "ax": b"",
    "bx": b"\x89\xd8",
    "cx": b"\x89\xc8",
    "dx": b"\x89\xd0",
    "si": b"\x89\xf0",
    "di": b"\x89\xf8",
    "bp": b"\x89\xe8",
    "sp": b"\x89\xe0",
    "upper esp": b"\x66\x89\xe0\x66\xc1\xe8\x10",
    "cs": b"\x8c\xc8",
    "ds": b"\x8c\xd8",
    "es": b"\x8c\xc0",
    "ss": b"\x8c\xd0",
    "fs": b"\x8c\xe0",
    "gs": b"\x8c\xe8",
    "msw": b"\x0f\x01\xe0",
    "flags": b"\x9c\x58",
}
"""Code that loads each word into AX, which is then stored. 16-bit code."""
DEVICES = [
    *((0x20, 0x11), (0xA0, 0x11)),
    *((0x21, 0x08), (0xA1, 0x70), (0x21, 0x04), (0xA1, 0x02), (0x21, 0x01), (0xA1, 0x01)),
    *((0x21, 0xF8), (0xA1, 0xFF)),
    *((0x43, 0x34), (0x40, 0), (0x40, 0)),
]
"""The BIOS's interrupt vectors and masks, and its clock."""


def setup_code() -> bytes:
    stores = (
        code + b"\xa3" + struct.pack("<H", NOTES + 2 * number)
        for number, code in enumerate(PROBES.values())
    )
    return b"".join(stores) + b"\xfa\xf4"


@pytest.mark.parametrize(
    ("setup", "code"), [(0x3000, 0x11010), (0x90000, 0x1000), (0x1000, 0x9E000), (0x8F000, 0x9FF10)]
)
def test_the_real_mode_entry(setup: int, code: int) -> None:
    """The state is that of boot.rst; nothing below 0x500 is written."""
    params = StubParams(
        boot_params=0,
        entry=code,
        serial_port=COM1,
        flags=StubFlag.ENTRY_32,
        rax=0xE000,
        rbx=setup >> 4,
        rdi=code,
    )
    pc = Pc()
    pc.write(STUB, stub_image(params))
    pc.write(code, real_mode_code())
    pc.write(setup + 0x200, setup_code())
    low: list[int] = []
    pc.uc.hook_add(
        UC_HOOK_MEM_WRITE,
        lambda uc, access, addr, *_: low.append(addr),
        begin=0,
        end=0x4FF,
    )
    pc.uc.emu_start(STUB, 0, timeout=60 * SECOND)
    assert pc.faults == []
    words = struct.unpack(f"<{len(PROBES)}H", pc.read(setup + NOTES, 2 * len(PROBES)))
    found = dict(zip(PROBES, words, strict=True))
    assert not found.pop("flags") & 0x600, "IF and DF are clear"
    assert found == {
        **dict.fromkeys(("ax", "bx", "cx", "dx", "si", "di", "bp", "upper esp"), 0),
        "sp": 0xE000,
        "cs": (setup >> 4) + 0x20,
        **dict.fromkeys(("ds", "es", "ss", "fs", "gs"), setup >> 4),
        "msw": 0x10,
    }
    _, base, limit, _ = pc.uc.reg_read(x86.UC_X86_REG_IDTR)
    assert (base, limit) == (0, 0x3FF)
    assert [write for write in pc.writes if write[0] != 0x80] == DEVICES
    assert low == []
