"""Does what the stub in a loaded image would do, according to its bytes.

The code is pykexec/purgatory/x86_64/stub.S; any other code at the entry is refused.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from pykexec.backends.simulated.kernel.ram import NotMemory, Ram
from pykexec.backends.simulated.second.relocate import SwitchFailed
from pykexec.backends.simulated.store.files import CHUNK
from pykexec.memory.ranges import PhysRange
from pykexec.purgatory import (
    SEAL_SIZE,
    STUB_SIZE,
    BadStub,
    Region,
    Seal,
    StubParams,
    parse_params,
    parse_seal,
    parse_tables,
    sha256,
)

MAX_TABLES = 16 << 20
"""Limit for the bytes of records: more would never be loaded."""


class DigestMismatch(SwitchFailed):
    """Loaded bytes have changed since the load: the stub does not start them."""

    code = "digest-mismatch"


@dataclass(frozen=True, slots=True)
class HandOver:
    """What the stub leaves in the registers, and the regions that it checked."""

    boot_params: int
    """RSI."""
    entry: int
    checked: tuple[PhysRange, ...]
    """Regions whose digest matched."""


def run_stub(ram: Ram, start: int) -> HandOver:
    """Enter the image at `start`. Raises DigestMismatch with the region, or SwitchFailed."""
    try:
        params = parse_params(ram.read(start, STUB_SIZE))
        if params.tables_size > MAX_TABLES:
            raise SwitchFailed(f"the stub's tables have {params.tables_size:#x} bytes")
        records = ram.read(params.tables, params.tables_size)
        if params.checks and records and sha256(records) != params.tables_sha256:
            raise DigestMismatch(
                f"the stub's tables at {params.tables:#x} have changed since the load"
            )
        regions, exchanges = parse_tables(records, params.n_regions, params.n_exchanges)
        if params.checks:
            _check_regions(ram, regions, _seal_of(ram, params))
        for exchange in exchanges:
            ram.swap(exchange.dest, exchange.source, exchange.size)
    except BadStub as error:
        raise SwitchFailed(
            f"at the entry {start:#x}: {error.message}",
            hint="only images made by pykexec can be run here",
        ) from error
    except NotMemory as error:
        raise SwitchFailed(f"the stub at {start:#x}: {error.message}") from error
    return HandOver(params.boot_params, params.entry, tuple(item.range for item in regions))


def _seal_of(ram: Ram, params: StubParams) -> Seal | None:
    """The seal of the ELF core headers; None if the image has none."""
    if not params.seal:
        return None
    seal = parse_seal(ram.read(params.seal, SEAL_SIZE))
    if not seal.bound:
        raise DigestMismatch(
            f"the ELF core headers were never bound (seal at {params.seal:#x} is empty)",
            hint="the load was not finished: load again",
        )
    return seal


def _check_regions(ram: Ram, regions: tuple[Region, ...], seal: Seal | None) -> None:
    """Check the digests of loaded regions, then that of the headers sealed later."""
    for region in regions:
        if _digest(ram, region.addr, region.size) != region.sha256:
            raise DigestMismatch(
                f"region {region.range} has changed since the load",
                hint="the stub does not start a damaged kernel",
                region=str(region.range),
            )
    if seal and _digest(ram, seal.addr, seal.size) != seal.sha256:
        span = PhysRange.sized(seal.addr, seal.size)
        raise DigestMismatch(
            f"the ELF core headers at {span} have changed since they were bound",
            region=str(span),
        )


def _digest(ram: Ram, addr: int, size: int) -> bytes:
    running = hashlib.sha256()
    for at in range(0, size, CHUNK):
        running.update(ram.read(addr + at, min(CHUNK, size - at)))
    return running.digest()
