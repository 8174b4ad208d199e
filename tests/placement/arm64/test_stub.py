"""The stub's segment on arm64: its parameters, its page tables, its size."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pykexec.machine import DeviceTreeFirmware, Machine, SerialConsole, Unknown
from pykexec.memory.map import MemoryMap
from pykexec.memory.ranges import GIB, MIB, PhysRange, RangeSet
from pykexec.placement.arm64.layout import arch_of, limits_of
from pykexec.placement.arm64.reservation import reservation_need
from pykexec.placement.arm64.stub import encode_stub, stub_memsz
from pykexec.placement.console import StubConsole
from pykexec.placement.stub_job import StubJob
from pykexec.purgatory import BadExchange, BadStubParams, Exchange, Region, parse_tables
from pykexec.purgatory.arm64.paging import DEVICE, NORMAL
from pykexec.purgatory.arm64.stub import STUB_MEMSZ, StubFlag, UartKind, parse_params
from tests.builders import ram
from tests.purgatory.arm64.test_paging import walk

PL011 = SerialConsole("ttyAMA0", 0x9000000, True, None, 0, "stdout-path", "PL011", 4)
MACHINE = Machine(
    name="test",
    memory_map=MemoryMap.of(ram((GIB, 2 * GIB), (4 * GIB, 5 * GIB - 3 * MIB))),
    architecture="aarch64",
    page_size=4096,
    console=PL011,
    firmware=DeviceTreeFirmware(psci="hvc"),
)
AT = 0x48100000
PIECE = 64 << 10
WINDOW = PhysRange.sized(0x50000000, 8 * MIB)
HIGH = 4 * GIB + 512 * MIB
JOB = StubJob(
    argument=0x50200000,
    entry=0x50000000,
    regions=(Region.of(HIGH, b"kernel"),),
    exchanges=(Exchange(0x50000000, HIGH, 2 * MIB),),
    console=StubConsole(PL011.address, "test", PL011),
    reset_seconds=5,
    settle_seconds=10,
    window=WINDOW,
)


def test_the_parameters_come_from_job_and_machine() -> None:
    encoded = encode_stub(JOB, MACHINE, AT)
    params = parse_params(encoded)
    assert (params.dtb, params.entry) == (JOB.argument, JOB.entry)
    assert (params.window, params.window_size) == (WINDOW.start, WINDOW.size)
    assert (params.uart, params.uart_kind, params.uart_width) == (0x9000000, UartKind.PL011, 4)
    assert params.flags == StubFlag.RESET_HVC
    again = parse_params(encode_stub(replace(JOB, in_use=True), MACHINE, AT))
    assert again.flags == StubFlag.RESET_HVC | StubFlag.IN_USE
    assert (params.reset_seconds, params.settle_seconds) == (5, 10)
    assert params.page_tables == AT + STUB_MEMSZ
    records = encoded[params.tables - AT :]
    assert parse_tables(records, 1, 1) == (JOB.regions, JOB.exchanges)


def test_everything_that_is_touched_is_mapped() -> None:
    encoded = encode_stub(JOB, MACHINE, AT)
    page_tables = encoded[STUB_MEMSZ:]

    def mapped(address: int) -> int | None:
        return walk(page_tables, address, AT + STUB_MEMSZ)

    for address in (AT, AT + len(encoded) - 1, WINDOW.start, WINDOW.last, HIGH, HIGH + 2 * MIB - 1):
        assert mapped(address) == NORMAL, hex(address)
    assert mapped(PL011.address) == DEVICE
    assert mapped(HIGH + 4 * MIB) is None
    assert mapped(GIB - 1) is None


@pytest.mark.parametrize(
    ("psci", "flags", "seconds"),
    [
        ("smc", StubFlag.RESET_SMC, 5),
        ("hvc", StubFlag.RESET_HVC, 5),
        (None, StubFlag.NONE, 0),
        (Unknown("hidden"), StubFlag.NONE, 0),
    ],
)
def test_without_psci_the_stub_halts(psci: object, flags: StubFlag, seconds: int) -> None:
    firmware = DeviceTreeFirmware(psci=psci)  # type: ignore[arg-type]
    params = parse_params(encode_stub(JOB, replace(MACHINE, firmware=firmware), AT))
    assert (params.flags, params.reset_seconds) == (flags, seconds)


def test_no_checks_and_no_console() -> None:
    job = replace(JOB, checks=False, regions=(), console=StubConsole(0, "none"), window=None)
    params = parse_params(encode_stub(job, MACHINE, AT))
    assert params.flags == StubFlag.RESET_HVC | StubFlag.NO_CHECKS
    assert (params.uart, params.uart_kind) == (0, UartKind.NONE)


def test_a_job_without_records_needs_no_tables() -> None:
    params = parse_params(encode_stub(replace(JOB, regions=(), exchanges=()), MACHINE, AT))
    assert (params.tables, params.n_regions, params.n_exchanges) == (0, 0, 0)


def test_an_unaligned_region_is_refused() -> None:
    with pytest.raises(BadStubParams, match="0x50000004 is not at a multiple of 8"):
        encode_stub(replace(JOB, regions=(Region.of(0x50000004, b"x"),)), MACHINE, AT)


def test_the_stub_is_not_exchanged() -> None:
    with pytest.raises(BadExchange, match="memory of the stub"):
        encode_stub(replace(JOB, exchanges=(Exchange(AT & -4096, HIGH, 4096),)), MACHINE, AT)


@pytest.mark.parametrize("address", [0x9000000, 0x9000FF0, HIGH, 600 * GIB, (1 << 48) - 4096])
def test_the_segment_has_room_for_another_uart_than_the_console(address: int) -> None:
    """As --serial of kexec(8) names one."""
    asked = replace(PL011, address=address)
    job = replace(JOB, console=StubConsole(address, "requested", asked))
    for console in (None, PL011, Unknown("hidden")):
        machine = replace(MACHINE, console=console)
        encoded = encode_stub(job, machine, AT)
        assert len(encoded) <= stub_memsz(machine, 1, 1)
        assert walk(encoded[STUB_MEMSZ:], address, AT + STUB_MEMSZ) == DEVICE


@pytest.mark.parametrize("page_size", [4096, 16384, 65536])
def test_the_segment_has_whole_pages_and_room_for_everything(page_size: int) -> None:
    machine = replace(MACHINE, page_size=page_size)
    size = stub_memsz(machine, 1, 1)
    assert size % page_size == 0
    assert len(encode_stub(JOB, machine, AT)) <= size
    assert reservation_need(arch_of(machine), size) == size + 2 * page_size


def test_a_reservation_of_64_kib_is_enough_for_a_window_of_192_mib() -> None:
    size = stub_memsz(MACHINE, 96 + 8, 96)
    assert reservation_need(arch_of(MACHINE), size) <= 64 << 10


def test_limits() -> None:
    limits = limits_of(arch_of(MACHINE))
    assert limits.uart_in_memory
    assert limits.low_memory is None
    assert limits.destinations == PhysRange(4096, 1 << 48)


def test_huge_pages_in_memory_that_was_added() -> None:
    """Nothing is placed there, but any huge page may be there: the tables have room for it."""
    added = RangeSet.of(PhysRange.sized(at * 16 * GIB + MIB, 8 * MIB) for at in range(1, 30))
    machine = replace(MACHINE, memory_map=replace(MACHINE.known_map, driver_ram=added))
    exchanges = tuple(
        Exchange(WINDOW.start + number * PIECE, span.start + MIB, PIECE)
        for number, span in enumerate(added)
    )
    job = replace(JOB, exchanges=exchanges)
    size = stub_memsz(machine, len(job.regions), len(exchanges))
    assert len(encode_stub(job, machine, AT)) <= size
