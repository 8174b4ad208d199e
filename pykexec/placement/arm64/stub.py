"""The stub as a segment: code, parameters, page tables, and the table of what it checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec import purgatory
from pykexec.machine import DeviceTreeFirmware
from pykexec.memory.ranges import PhysRange, RangeSet, align_down, align_up
from pykexec.placement.arm64.layout import arch_of
from pykexec.placement.console import REGISTERS
from pykexec.purgatory.arm64.paging import TABLE, identity_map, most_tables
from pykexec.purgatory.arm64.stub import (
    STUB_MEMSZ,
    StubFlag,
    StubParams,
    UartKind,
    check_regions,
    stub_image,
)

if TYPE_CHECKING:
    from pykexec.machine import Machine, SerialConsole
    from pykexec.placement.stub_job import StubJob

KINDS = {"8250": UartKind.UART_8250, "PL011": UartKind.PL011}
RESETS = {"smc": StubFlag.RESET_SMC, "hvc": StubFlag.RESET_HVC}


def stub_memsz(machine: Machine, n_regions: int, n_exchanges: int = 0) -> int:
    """Bytes of the segment, enough for any addresses on this machine, and for any UART: the request
    may name another than the machine's console."""
    records = n_regions * purgatory.REGION_SIZE + n_exchanges * purgatory.EXCHANGE_SIZE
    tables = most_tables(_memory(machine))
    return align_up(STUB_MEMSZ + tables * TABLE + records, arch_of(machine).page_size)


def encode_stub(job: StubJob, machine: Machine, at: int) -> bytes:
    """The segment's bytes for the address `at`. Raises BadExchange, and BadStubParams for a region
    that is not at a multiple of 8."""
    check_regions(job.regions)
    own = PhysRange.sized(at, stub_memsz(machine, len(job.regions), len(job.exchanges)))
    keep = [("memory of the stub", span) for span in RangeSet.of((own, *job.keep))]
    records = purgatory.tables(job.regions, job.exchanges, keep)
    page_tables = _page_tables(job, machine, own)
    behind = at + STUB_MEMSZ + len(page_tables)
    params = _params(job, machine, at + STUB_MEMSZ)
    if records:
        params = params.with_tables(records, at=behind, n_regions=len(job.regions))
    return stub_image(params).ljust(STUB_MEMSZ, b"\0") + page_tables + records


def _page_tables(job: StubJob, machine: Machine, own: PhysRange) -> bytes:
    """The page tables for what the stub touches, at the address behind its scratch page."""
    touched = RangeSet.of(
        (
            own,
            *((job.window,) if job.window else ()),
            *(item.range for item in job.regions if item.size),
            *(span for item in job.exchanges for span in (item.dest_range, item.source_range)),
        )
    )
    device = _device(job.console.uart)
    return identity_map(own.start + STUB_MEMSZ, touched, device, _memory(machine))


def _memory(machine: Machine) -> RangeSet:
    """All that a huge page may be in, also where nothing is placed."""
    return machine.known_map.ram | machine.known_map.driver_ram


def _device(uart: SerialConsole | None) -> RangeSet:
    """The page with the registers of a memory-mapped UART whose address is known."""
    if uart is None or not uart.in_memory or not uart.address:
        return RangeSet()
    return RangeSet((PhysRange.sized(align_down(uart.address, REGISTERS), REGISTERS),))


def _params(job: StubJob, machine: Machine, page_tables: int) -> StubParams:
    reset = _reset(machine)
    checks = StubFlag.NONE if job.checks else StubFlag.NO_CHECKS
    in_use = StubFlag.IN_USE if job.in_use else StubFlag.NONE
    uart, window = job.console.uart, job.window
    return StubParams(
        dtb=job.argument,
        entry=job.entry,
        seal=job.seal,
        page_tables=page_tables,
        window=window.start if window else 0,
        window_size=window.size if window else 0,
        uart=job.console.port if uart else 0,
        uart_kind=KINDS[uart.model] if uart else UartKind.NONE,
        uart_shift=uart.shift if uart else 0,
        uart_width=uart.width if uart else 1,
        flags=reset | checks | in_use,
        reset_seconds=job.reset_seconds if reset else 0,
        settle_seconds=job.settle_seconds,
    )


def _reset(machine: Machine) -> StubFlag:
    """The instruction that calls the firmware for a reset; without one the stub halts."""
    firmware = machine.firmware
    psci = firmware.psci if isinstance(firmware, DeviceTreeFirmware) else None
    return RESETS.get(psci, StubFlag.NONE) if isinstance(psci, str) else StubFlag.NONE
