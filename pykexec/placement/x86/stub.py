"""The stub as a segment: code, parameters, and the table of what it has to check."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pykexec import purgatory
from pykexec.abi.kexec import PAGE_SIZE
from pykexec.images.contents import Built
from pykexec.memory.ranges import PhysRange, RangeSet, align_up
from pykexec.placement.plan import PURGATORY, Placed
from pykexec.placement.request import LoadRequest
from pykexec.placement.segment import Source
from pykexec.purgatory import REGION_SIZE, STUB_MEMSZ, STUB_SIZE, Exchange, Region, StubFlag
from pykexec.purgatory.x86_64.paging import PAGE_TABLES_SIZE, identity_map

MAX_REGIONS = 4
"""What the stub checks of a Linux: kernel, initrd, boot_params, ELF core headers."""
TABLES_ALIGN = 16


def stub_memsz(n_regions: int, n_exchanges: int = 0, from_32: bool = False) -> int:
    """Bytes of the segment: the tables share the code's page when they fit there; page
    tables, where the stub is entered in 32-bit mode, come last."""
    size = n_regions * REGION_SIZE + n_exchanges * purgatory.EXCHANGE_SIZE
    paging = PAGE_TABLES_SIZE if from_32 else 0
    if tables_offset(size) < STUB_MEMSZ:
        return STUB_MEMSZ + paging
    return STUB_MEMSZ + align_up(size, PAGE_SIZE) + paging


def tables_offset(size: int) -> int:
    """Where tables of `size` bytes start in the segment; the second page is the stub's stack."""
    behind_code = align_up(STUB_SIZE, TABLES_ALIGN)
    return behind_code if behind_code + size <= PAGE_SIZE else STUB_MEMSZ


def entry_of(request: LoadRequest, purgatory: PhysRange) -> int:
    """The purgatory, unless --entry says otherwise."""
    return purgatory.start if request.entry is None else request.entry


def regions(placed: Iterable[Placed]) -> tuple[Region, ...]:
    """What the stub checks: loaded bytes only, never zeros, nor what the kernel will rewrite,
    nor an empty file."""
    return tuple(
        Region(item.range.start, item.contents.size, item.contents.sha256)
        for item in placed
        if item.contents and item.contents.size and item.digested
    )


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
    serial_port: int = 0
    """Of `StubConsole`."""
    reset_seconds: int = 0
    rax: int = 0
    rbx: int = 0
    rdi: int = 0
    entry_32: bool = False
    from_32: bool = False
    """A 32-bit kernel enters the stub: it needs page tables of its own."""
    keep: tuple[PhysRange, ...] = ()
    """What must not be exchanged beside the segment itself: the kernel's page tables."""

    @property
    def flags(self) -> StubFlag:
        checks = StubFlag.NONE if self.checks else StubFlag.NO_CHECKS
        return checks | (StubFlag.ENTRY_32 if self.entry_32 else StubFlag.NONE)

    def encode(self, at: int) -> bytes:
        """The segment's bytes when it lies at `at`. Raises BadExchange."""
        size = stub_memsz(len(self.regions), len(self.exchanges), self.from_32)
        own = PhysRange.sized(at, size)
        keep = [("memory of the stub", span) for span in RangeSet.of((own, *self.keep))]
        records = purgatory.tables(self.regions, self.exchanges, keep)
        offset = tables_offset(len(records))
        page_tables = own.end - PAGE_TABLES_SIZE if self.from_32 else 0
        told = purgatory.StubParams(
            boot_params=self.boot_params,
            entry=self.entry,
            seal=self.seal,
            serial_port=self.serial_port,
            flags=self.flags,
            reset_seconds=self.reset_seconds,
            rax=self.rax,
            rbx=self.rbx,
            rdi=self.rdi,
            page_tables=page_tables,
        ).with_tables(records, at=at + offset, n_regions=len(self.regions))
        code = purgatory.stub_image(told)
        if records:
            code = code.ljust(offset, b"\0") + records
        if self.from_32:
            code = code.ljust(page_tables - at, b"\0") + identity_map(page_tables)
        return code


def with_purgatory(
    placed: Iterable[Placed],
    at: PhysRange,
    job: StubJob,
    why: str = "at the highest free address",
    starts: str = "kernel",
) -> tuple[Placed, ...]:
    """The things and their purgatory, in address order; it is made last, since it has the
    digest of each. `why` explains its place."""
    things = tuple(placed)
    checking = replace(job, regions=regions(things)) if job.checks else job
    made = Placed(
        PURGATORY,
        at,
        f"{why}; the entry: verifies the digests, then starts the {starts}",
        Built(checking.encode(at.start)),
        Source.BUILT,
    )
    return tuple(sorted((*things, made), key=lambda item: item.range))
