"""The stub as a segment: code, parameters, and the table of what it has to check."""

from __future__ import annotations

from dataclasses import dataclass

from pykexec import purgatory
from pykexec.abi.kexec import PAGE_SIZE
from pykexec.memory.ranges import PhysRange, RangeSet, align_up
from pykexec.purgatory import REGION_SIZE, STUB_MEMSZ, STUB_SIZE, Exchange, Region, StubFlag

TABLES_ALIGN = 16
COM1 = 0x3F8


def stub_memsz(n_regions: int, n_exchanges: int = 0) -> int:
    """Bytes of the segment: the tables share the code's page when they fit there."""
    size = n_regions * REGION_SIZE + n_exchanges * purgatory.EXCHANGE_SIZE
    if tables_offset(size) < STUB_MEMSZ:
        return STUB_MEMSZ
    return STUB_MEMSZ + align_up(size, PAGE_SIZE)


def tables_offset(size: int) -> int:
    """Where tables of `size` bytes start in the segment; the second page is the stub's stack."""
    behind_code = align_up(STUB_SIZE, TABLES_ALIGN)
    return behind_code if behind_code + size <= PAGE_SIZE else STUB_MEMSZ


@dataclass(frozen=True)
class StubJob:
    """What one stub has to do; addresses physical."""

    boot_params: int
    """RSI at the entry."""
    entry: int
    regions: tuple[Region, ...] = ()
    exchanges: tuple[Exchange, ...] = ()
    seal: int = 0
    checks: bool = True
    reset_seconds: int = 0
    rax: int = 0
    rbx: int = 0
    rdi: int = 0
    entry_32: bool = False
    keep: tuple[PhysRange, ...] = ()
    """What must not be exchanged beside the segment itself: the kernel's page tables."""

    @property
    def flags(self) -> StubFlag:
        checks = StubFlag.NONE if self.checks else StubFlag.NO_CHECKS
        return checks | (StubFlag.ENTRY_32 if self.entry_32 else StubFlag.NONE)

    def encode(self, at: int) -> bytes:
        """The segment's bytes when it lies at `at`. Raises BadExchange."""
        own = PhysRange.sized(at, stub_memsz(len(self.regions), len(self.exchanges)))
        keep = [("memory the stub lives on", span) for span in RangeSet.of((own, *self.keep))]
        records = purgatory.tables(self.regions, self.exchanges, keep)
        offset = tables_offset(len(records))
        params = purgatory.StubParams.around(
            records,
            at=at + offset,
            n_regions=len(self.regions),
            boot_params=self.boot_params,
            entry=self.entry,
            seal=self.seal,
            serial_port=COM1,
            flags=self.flags,
            reset_seconds=self.reset_seconds,
            rax=self.rax,
            rbx=self.rbx,
            rdi=self.rdi,
        )
        code = purgatory.stub_image(params)
        return code.ljust(offset, b"\0") + records if records else code
