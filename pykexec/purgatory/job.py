"""The records of the stub: what to check, what to exchange, and what is sealed later."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from itertools import pairwise

from pykexec.errors import CheckFailed, UsageError
from pykexec.frozen import dataclass
from pykexec.memory.ranges import BadRange, PhysRange

REGION = struct.Struct("<QQ32s")
"""struct region and struct seal: addr, size, sha256."""

EXCHANGE = struct.Struct("<QQQ")
"""struct exchange: dest, source, size."""

EXCHANGE_UNIT = 4096
"""Bytes that a stub exchanges at a time; a page of a kernel is a multiple of it."""

REGION_SIZE = REGION.size
EXCHANGE_SIZE = EXCHANGE.size
SEAL_SIZE = REGION.size
SHA256_SIZE = 32


class BadStub(CheckFailed):
    """Bytes that are not a stub, its tables or its seal, as expected."""

    code = "bad-stub"


class BadStubParams(UsageError):
    """A value that the stub's records cannot represent."""

    code = "bad-stub-params"


class BadExchange(UsageError):
    """An exchange that would lose memory instead of moving it."""

    code = "bad-exchange"


def check_digest(digest: bytes) -> None:
    """Raises BadStubParams if it is not a SHA-256 digest."""
    if len(digest) != SHA256_SIZE:
        raise BadStubParams(f"a sha256 has {SHA256_SIZE} bytes, not {len(digest)}")


def _check_span(what: str, addr: int, size: int) -> None:
    try:
        PhysRange.sized(addr, size)
    except BadRange as error:
        raise BadStubParams(f"{what}: {error.message}") from None


@dataclass(frozen=True, slots=True)
class Region:
    """`size` bytes at `addr` that must have this digest *before* anything is exchanged."""

    addr: int
    size: int
    sha256: bytes

    def __post_init__(self) -> None:
        check_digest(self.sha256)
        _check_span("region", self.addr, self.size)

    @classmethod
    def of(cls, addr: int, contents: bytes | memoryview) -> Region:
        """The region that matches `contents`."""
        return cls(addr, len(contents), sha256(contents))

    @property
    def range(self) -> PhysRange:
        return PhysRange.sized(self.addr, self.size)


@dataclass(frozen=True, slots=True)
class Exchange:
    """`size` bytes at `dest` and at `source` are exchanged; multiples of EXCHANGE_UNIT."""

    dest: int
    source: int
    size: int

    def __post_init__(self) -> None:
        for name, value in (("dest", self.dest), ("source", self.source), ("size", self.size)):
            if value % EXCHANGE_UNIT:
                raise BadExchange(
                    f"{self} is not in whole pages: {name} {value:#x} is not a multiple of "
                    f"{EXCHANGE_UNIT:#x}"
                )
        if self.size <= 0:
            raise BadExchange(f"{self} is empty")
        try:
            mine, other = self.dest_range, self.source_range
        except BadRange as error:
            raise BadExchange(f"{self}: {error.message}") from None
        if mine.overlaps(other):
            raise BadExchange(f"{self}: dest {mine} overlaps source {other}")

    def __str__(self) -> str:
        return f"exchange of {self.dest:#x} with {self.source:#x} ({self.size:#x} bytes)"

    @property
    def dest_range(self) -> PhysRange:
        return PhysRange.sized(self.dest, self.size)

    @property
    def source_range(self) -> PhysRange:
        return PhysRange.sized(self.source, self.size)


@dataclass(frozen=True, slots=True)
class Seal:
    """The digest of bytes that are made after the load, the ELF core headers.

    The record is zero until they are bound; the stub treats that as a mismatch.
    """

    addr: int = 0
    size: int = 0
    sha256: bytes = bytes(SHA256_SIZE)

    def __post_init__(self) -> None:
        check_digest(self.sha256)
        if self.size:
            _check_span("seal", self.addr, self.size)

    @classmethod
    def of(cls, addr: int, contents: bytes | memoryview) -> Seal:
        """The seal on `contents`, which must not be empty: that would mean unbound."""
        if not len(contents):
            raise BadStubParams(f"nothing to seal at {addr:#x}")
        return cls(addr, len(contents), sha256(contents))

    @property
    def bound(self) -> bool:
        return self.size > 0

    def __bytes__(self) -> bytes:
        """The record of SEAL_SIZE bytes at `StubParams.seal`."""
        return REGION.pack(self.addr, self.size, self.sha256)


UNBOUND = Seal()


def tables(
    regions: Iterable[Region],
    exchanges: Iterable[Exchange],
    keep: Iterable[tuple[str, PhysRange]] = (),
) -> bytes:
    """The records at `StubParams.tables`: all regions, then all exchanges.

    Raises BadExchange as `check_exchanges` does.
    """
    exchanges = tuple(exchanges)
    check_exchanges(exchanges, keep)
    return b"".join(
        [
            *(REGION.pack(item.addr, item.size, item.sha256) for item in regions),
            *(EXCHANGE.pack(item.dest, item.source, item.size) for item in exchanges),
        ]
    )


def check_exchanges(
    exchanges: Sequence[Exchange], keep: Iterable[tuple[str, PhysRange]] = ()
) -> None:
    """Refuse overlapping exchanges: memory that is moved twice ends at an unexpected place.

    `keep` names what the stub uses while it works and must not be moved: itself, the tables, the
    page tables. Raises BadExchange, which names both.
    """
    spans = [(span, name) for name, span in keep]
    for number, item in enumerate(exchanges):
        spans.append((item.dest_range, f"dest of exchange {number}"))
        spans.append((item.source_range, f"source of exchange {number}"))
    spans.sort()
    for (before, its_name), (after, name) in pairwise(spans):
        if before.overlaps(after):
            raise BadExchange(f"{its_name} {before} overlaps {name} {after}")


def parse_tables(
    records: bytes, n_regions: int, n_exchanges: int
) -> tuple[tuple[Region, ...], tuple[Exchange, ...]]:
    """The inverse of `tables`; bytes after the records are ignored.

    Raises BadStub, which names the record. Does not check the digest.
    """
    split = n_regions * REGION_SIZE
    size = split + n_exchanges * EXCHANGE_SIZE
    if n_regions < 0 or n_exchanges < 0 or len(records) < size:
        raise BadStub(
            f"stub tables of {len(records):#x} bytes cannot hold {n_regions} regions and "
            f"{n_exchanges} exchanges"
        )
    what = ""
    try:
        regions = []
        for number, row in enumerate(REGION.iter_unpack(records[:split])):
            what = f"region {number}: "
            regions.append(Region(*row))
        exchanges = []
        for number, row in enumerate(EXCHANGE.iter_unpack(records[split:size])):
            what = f"exchange {number}: "
            exchanges.append(Exchange(*row))
        what = ""
        check_exchanges(exchanges)
    except (BadExchange, BadStubParams) as error:
        raise BadStub(f"stub tables: {what}{error.message}") from None
    return tuple(regions), tuple(exchanges)


def parse_seal(record: bytes) -> Seal:
    """The seal in the first SEAL_SIZE bytes, which may not be `bound` yet. Raises BadStub."""
    if len(record) < SEAL_SIZE:
        raise BadStub(f"not a seal: {len(record):#x} bytes, expected {SEAL_SIZE:#x}")
    try:
        return Seal(*REGION.unpack_from(record))
    except BadStubParams as error:
        raise BadStub(error.message) from None


def sha256(contents: bytes | memoryview) -> bytes:
    """The digest that the stub will compute of these bytes."""
    return hashlib.sha256(contents).digest()
