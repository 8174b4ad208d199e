"""The first golden file: the nine rows of the 2007 table, from its four buffers and its window.

The places of the four do not come from today's rules: kexec-tools aligned differently in 2007.
"""

from __future__ import annotations

from pathlib import Path

from pykexec.arch import X86_64
from pykexec.images.contents import Built
from pykexec.memory.map import MemoryMap
from pykexec.memory.ranges import PhysRange
from pykexec.placement.fill import fill
from pykexec.placement.plan import Placed
from pykexec.placement.role import Role
from pykexec.placement.segment import SegmentTable, Source
from pykexec.placement.x86.layout import limits_of
from tests.builders import MIB, ram, reserved
from tests.placement.names import BOOT_PARAMS

WINDOW = PhysRange.from_inclusive(0x100000, 0xFFFFFF)
BIOS_2007 = MemoryMap.of(
    [*reserved((0, 0x1000), (0x9FC00, 0xA0000)), *ram((0x1000, 0x9FC00), (MIB, 512 * MIB))]
)
BUFFERS = (
    (Role.PURGATORY, 0x7120, 0xFF1000, 0x9000),
    (Role.ELFCOREHDR, 0x400, 0xFFB000, 0x4000),
    (Role.BOOT_INFORMATION, 0x289B, 0x100000, 0x3000),
    (Role.KERNEL, 0xB7C00, 0x200000, 0xB8000),
)
ROWS = """\
0 NULL 0 0x1000 0x9e000
1 data 0x289b 0x100000 0x3000
2 NULL 0 0x103000 0xfd000
3 data 0xb7c00 0x200000 0xb8000
4 NULL 0 0x2b8000 0xd39000
5 data 0x7120 0xff1000 0x9000
6 NULL 0 0xffa000 0x1000
7 data 0x400 0xffb000 0x4000
8 NULL 0 0xfff000 0x1000
"""


def seed_table() -> SegmentTable:
    placed = [
        Placed(
            role,
            PhysRange.sized(mem, memsz),
            "the seed",
            Built(bytes(bufsz)),
            Source.BUILT,
            label=BOOT_PARAMS if role is Role.BOOT_INFORMATION else "",
        )
        for role, bufsz, mem, memsz in BUFFERS
    ]
    limits = limits_of(X86_64)
    whole = fill(
        placed,
        BIOS_2007.whole_page_ram(4096).within(WINDOW),
        limits.low_ram(BIOS_2007, 4096),
        limits.why_low,
    )
    return SegmentTable(tuple(item.segment for item in whole), 0xFF1000)


def test_the_fill_and_the_order_give_the_seeds_nine_rows() -> None:
    rows = [
        f"{number} {'data' if item.buf else 'NULL'} "
        f"{item.bufsz and hex(item.bufsz)} {item.mem:#x} {item.memsz:#x}\n"
        for number, item in enumerate(seed_table().segments)
    ]
    assert "".join(rows) == ROWS


def test_the_print_is_the_seeds_table() -> None:
    from pykexec.cli.out.plain import segment_table

    golden = Path(__file__).parents[1] / "golden" / "seed-table.txt"
    assert "\n".join(segment_table(seed_table())) + "\n" == golden.read_text()
