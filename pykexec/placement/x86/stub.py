"""The stub as a segment: code, parameters, and the table of what it checks."""

from __future__ import annotations

from dataclasses import fields

from pykexec import purgatory
from pykexec.abi.x86.page import PAGE_SIZE
from pykexec.frozen import dataclass
from pykexec.memory.ranges import PhysRange, RangeSet, align_up
from pykexec.placement.stub_job import StubJob
from pykexec.purgatory import REGION_SIZE, STUB_MEMSZ, STUB_SIZE, StubFlag
from pykexec.purgatory.x86_64.paging import PAGE_TABLES_SIZE, identity_map

TABLES_ALIGN = 16


def stub_memsz(n_regions: int, n_exchanges: int = 0, from_32: bool = False) -> int:
    """Bytes of the segment: the tables share the code's page if they fit there; page tables, if the
    stub is entered in 32-bit mode, come last."""
    size = n_regions * REGION_SIZE + n_exchanges * purgatory.EXCHANGE_SIZE
    paging = PAGE_TABLES_SIZE if from_32 else 0
    if tables_offset(size) < STUB_MEMSZ:
        return STUB_MEMSZ + paging
    return STUB_MEMSZ + align_up(size, PAGE_SIZE) + paging


def tables_offset(size: int) -> int:
    """The offset of tables of `size` bytes in the segment; the second page is the stub's stack."""
    behind_code = align_up(STUB_SIZE, TABLES_ALIGN)
    return behind_code if behind_code + size <= PAGE_SIZE else STUB_MEMSZ


@dataclass(frozen=True)
class X86StubJob(StubJob):
    """With the registers at the entry, beside RSI, and the modes of the processor."""

    rax: int = 0
    rbx: int = 0
    rdi: int = 0
    entry_32: bool = False
    from_32: bool = False
    """A 32-bit kernel enters the stub: it needs page tables of its own."""

    @property
    def flags(self) -> StubFlag:
        checks = StubFlag.NONE if self.checks else StubFlag.NO_CHECKS
        in_use = StubFlag.IN_USE if self.in_use else StubFlag.NONE
        return checks | in_use | (StubFlag.ENTRY_32 if self.entry_32 else StubFlag.NONE)

    def encode(self, at: int) -> bytes:
        """The segment's bytes when it lies at `at`. Raises BadExchange."""
        size = stub_memsz(len(self.regions), len(self.exchanges), self.from_32)
        own = PhysRange.sized(at, size)
        keep = [("memory of the stub", span) for span in RangeSet.of((own, *self.keep))]
        records = purgatory.tables(self.regions, self.exchanges, keep)
        offset = tables_offset(len(records))
        page_tables = own.end - PAGE_TABLES_SIZE if self.from_32 else 0
        params = purgatory.StubParams(
            boot_params=self.argument,
            entry=self.entry,
            seal=self.seal,
            serial_port=self.console.port,
            flags=self.flags,
            reset_seconds=self.reset_seconds,
            rax=self.rax,
            rbx=self.rbx,
            rdi=self.rdi,
            page_tables=page_tables,
            settle_seconds=self.settle_seconds,
            tsc_khz=self.clock_khz,
        ).with_tables(records, at=at + offset, n_regions=len(self.regions))
        code = purgatory.stub_image(params)
        if records:
            code = code.ljust(offset, b"\0") + records
        if self.from_32:
            code = code.ljust(page_tables - at, b"\0") + identity_map(page_tables)
        return code


def encode_stub(job: StubJob, at: int) -> bytes:
    """The stub's bytes for a job of any architecture. Raises BadExchange."""
    own = {item.name: getattr(job, item.name) for item in fields(StubJob)}
    return X86StubJob(**own).encode(at)
