"""The stub for arm64 with its page tables, run by QEMU without any kernel: at EL1, and at EL2
without and with VHE.

What it starts is a second stub, with its MMU off, which checks that the memory is where it belongs,
and starts a few instructions which print what a kernel would find. QEMU models no caches: whether
they are cleaned is tested in `test_stub`.
"""

from __future__ import annotations

import random
import struct
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pykexec.memory.ranges import GIB, MIB, PhysRange, RangeSet
from pykexec.purgatory import Exchange, Region, tables
from pykexec.purgatory.arm64.paging import identity_map, most_tables
from pykexec.purgatory.arm64.stub import STUB_MEMSZ, StubFlag, StubParams, UartKind, stub_image
from tests.vm.debian import Unavailable
from tests.vm.supplies import qemu

pytestmark = pytest.mark.vm

RAM = RangeSet((PhysRange(GIB + 64 * MIB, 3 * GIB),))
"""One GiB with its own table of blocks, and one as a single block."""
UART = 0x09000000
STUB, SECOND, VHE = 0x48100000, 0x49000000, 0x49800000
WINDOW = PhysRange.sized(0x50000000, 4 * MIB)
SOURCES = (0x60000000, 0x90200000)
HUGE_PAGE = 2 * MIB
DTB = WINDOW.start + HUGE_PAGE
ENTRY = WINDOW.start

PROBE = bytes.fromhex(
    # movz x9, #0x900, lsl #16; EL, SCTLR.M, SCTLR.C, whether x1 to x3 are set: a digit each
    "0920a1d2 4a4238d5 4afd42d3 4ac10011 2a0100b9 4a1038d5 4b014092 6bc10011 2b0100b9 4b0942d3"
    "6bc10011 2b0100b9 2b0002aa 6b0103aa 7f0100f1 eb079f1a 6bc10011 2b0100b9"
    # the bytes of a span, then eight at x0
    "0c020058 2d020058 ad0000b4 8a154038 2a0100b9 ad0500d1 fcffff17 0d0180d2 0a144038 2a0100b9"
    "ad0500f1 a1ffff54"
    # PSCI SYSTEM_OFF
    "00018052 0080b072 020000d4 00000014"
)
SCTLR_EL2_WORD, CALL_WORD = 5, 32
SCTLR_EL2, SMC = 0xD53C100A, 0xD4000003
"""mrs x10, sctlr_el2; smc #0."""
ENTER_VHE = bytes.fromhex("00113cd5 8100c0d2 210065b2 000001aa 00111cd5 df3f03d5 40000058 00001fd6")
"""HCR_EL2.E2H and TGE, then to the address that follows."""


@dataclass(frozen=True)
class Level:
    """How the stub is entered."""

    machine: str
    cpu: str
    level: int
    vhe: bool = False

    @property
    def uses_el2_names(self) -> bool:
        return self.level == 2 and not self.vhe


EL1 = Level("virt", "cortex-a57", 1)
EL2 = Level("virt,virtualization=on", "cortex-a57", 2)
LEVELS = {
    "EL1": EL1,
    "EL1-scalar": Level("virt", "max", 1),  # it has SME
    "EL2": EL2,
    "EL2-without-VHE": Level("virt,virtualization=on", "max", 2),
    "VHE": Level("virt,virtualization=on", "max", 2, vhe=True),
    "VHE-sha": Level("virt,virtualization=on", "max,sme=off", 2, vhe=True),
}


@pytest.fixture(scope="module")
def program() -> str:
    try:
        return qemu("qemu-system-aarch64", "qemu-system-arm")
    except Unavailable as unavailable:
        pytest.skip(unavailable.reason)


def noise(seed: int) -> bytes:
    return random.Random(seed).randbytes(HUGE_PAGE)


def probe(level: Level) -> bytes:
    words = list(struct.unpack(f"<{len(PROBE) // 4}I", PROBE))
    if level.uses_el2_names:
        words[SCTLR_EL2_WORD] = SCTLR_EL2
    if level.level == 2:
        words[CALL_WORD] = SMC
    return struct.pack(f"<{len(words)}I", *words) + struct.pack("<QQ", SOURCES[0], 8)


OLD = [b"OLDBYTES" + noise(1)[8:], noise(2)]


def staged(level: Level) -> list[bytes]:
    """What belongs into the window."""
    kernel = probe(level)
    return [kernel + noise(3)[len(kernel) :], b"DEVTREE!" + noise(4)[8:]]


def segment(at: int, params: StubParams, records: bytes, n_regions: int, *, mmu: bool) -> bytes:
    """A stub with page tables for everything in this file, then its records."""
    own = PhysRange.sized(at, HUGE_PAGE)
    touched = RangeSet.of((own, WINDOW, *(PhysRange.sized(at, HUGE_PAGE) for at in SOURCES)))
    device = RangeSet((PhysRange.sized(UART, 0x1000),))
    page_tables = identity_map(at + STUB_MEMSZ, touched, device, RAM) if mmu else b""
    assert len(page_tables) <= most_tables(RAM) * 4096
    behind = at + STUB_MEMSZ + len(page_tables)
    params = params.with_tables(records, at=behind, n_regions=n_regions)
    if mmu:
        params = replace(params, page_tables=at + STUB_MEMSZ)
    return stub_image(params).ljust(STUB_MEMSZ, b"\xa5") + page_tables + records


def first_stub(new: list[bytes], exchanges: tuple[Exchange, ...], flags: StubFlag) -> bytes:
    params = StubParams(
        dtb=DTB,
        entry=SECOND,
        window=WINDOW.start,
        window_size=WINDOW.size,
        uart=UART,
        uart_kind=UartKind.PL011,
        uart_width=4,
        flags=flags,
        reset_seconds=1,
        settle_seconds=1,
    )
    regions = [Region.of(at, page) for at, page in zip(SOURCES, new, strict=True)]
    return segment(STUB, params, tables(regions, exchanges), len(regions), mmu=True)


def second_stub(new: list[bytes]) -> bytes:
    """Every exchanged page is checked where it is now."""
    params = StubParams(dtb=DTB, entry=ENTRY, uart=UART, uart_kind=UartKind.PL011, uart_width=4)
    starts = (WINDOW.start, DTB, *SOURCES)
    regions = [Region.of(at, page) for at, page in zip(starts, new + OLD, strict=True)]
    return segment(SECOND, params, tables(regions, ()), len(regions), mmu=False)


@dataclass
class Bench:
    """Memory at its addresses, and the machine that runs it."""

    program: str
    folder: Path
    level: Level
    memory: dict[int, bytes]

    def run(self) -> str:
        words = [self.program, "-M", self.level.machine, "-cpu", self.level.cpu, "-m", "2048"]
        words += ["-display", "none", "-nodefaults", "-serial", "stdio", "-no-reboot"]
        for at, contents in self.memory.items():
            file = self.folder / f"{at:x}"
            file.write_bytes(contents)
            words += ["-device", f"loader,file={file},addr={at:#x},force-raw=on"]
        start = VHE if self.level.vhe else STUB
        words += ["-device", f"loader,addr={start:#x},cpu-num=0"]
        ran = subprocess.run(words, capture_output=True, timeout=120, check=False)
        assert ran.stderr == b""
        return ran.stdout.decode("ascii").replace("\r\n", "\n")


def bench(program: str, folder: Path, level: Level, flags: StubFlag = StubFlag.RESET_HVC) -> Bench:
    new = staged(level)
    exchanges = tuple(
        Exchange(WINDOW.start + n * HUGE_PAGE, at, HUGE_PAGE) for n, at in enumerate(SOURCES)
    )
    memory = {
        STUB: first_stub(new, exchanges, flags),
        SECOND: second_stub(new),
        WINDOW.start: OLD[0],
        DTB: OLD[1],
        **dict(zip(SOURCES, new, strict=True)),
        VHE: ENTER_VHE + struct.pack("<Q", STUB),
    }
    return Bench(program, folder, level, memory)


CHECKING = "\npykexec: checking\n"


@pytest.mark.parametrize("name", list(LEVELS))
def test_the_pages_are_exchanged_and_the_kernel_is_entered(
    program: str, tmp_path: Path, name: str
) -> None:
    level = LEVELS[name]
    output = bench(program, tmp_path, level).run()
    wait = "pykexec: waiting 1 s for devices .\n"
    start = "pykexec: starting\n"
    seen = f"{level.level}000OLDBYTESDEVTREE!"
    assert output == CHECKING + wait + start + CHECKING + start + seen


@pytest.mark.parametrize("name", list(LEVELS))
def test_a_spoiled_byte_is_named_and_resets(program: str, tmp_path: Path, name: str) -> None:
    machine = bench(program, tmp_path, LEVELS[name])
    page = bytearray(machine.memory[SOURCES[1]])
    page[0x12345] ^= 1
    machine.memory[SOURCES[1]] = bytes(page)
    assert machine.run() == (
        f"{CHECKING}pykexec: region 1 at {SOURCES[1]:#x} does not match\n"
        "pykexec: kernel not started, reset in 1 s\n"
    )


@pytest.mark.parametrize("name", list(LEVELS))
def test_what_is_not_mapped_is_a_line_on_the_console(
    program: str, tmp_path: Path, name: str
) -> None:
    machine = bench(program, tmp_path, LEVELS[name])
    stub = bytearray(machine.memory[STUB])
    struct.pack_into("<Q", stub, 40, 0x70000000)  # p_tables
    machine.memory[STUB] = bytes(stub)
    output = machine.run()
    assert output.startswith(f"{CHECKING}pykexec: exception 4 at 0x4810")
    assert f", stub at {STUB:#x}, esr 0x960000" in output
    assert output.endswith("far 0x70000000\npykexec: kernel not started, reset in 1 s\n")


def test_a_uart_that_is_not_there_is_given_up(program: str, tmp_path: Path) -> None:
    """The machine has nothing at this address: the first access is an external abort."""
    machine = bench(program, tmp_path, EL1)
    stub = bytearray(machine.memory[STUB])
    struct.pack_into("<Q", stub, 120, UART + 0x1F0000)
    machine.memory[STUB] = bytes(stub)
    assert machine.run() == CHECKING + "pykexec: starting\n1000OLDBYTESDEVTREE!"
