"""The machine code between two kernels, and the records by which it is told what to do.

`stub.S` is the code and explains itself; `stub.bin` is what scripts/build-stub makes of it.
`real_mode.S` follows it where a kernel is entered in real mode.
Here is the other side: values to bytes for the loader, bytes to values for whoever reads a
loaded stub back (the simulated kernel does what the stub would do).

The layouts are declared once, below, and a test compares them with the symbols of the built
ELF file. They are in `struct` and not in construct: a crash image can have thousands of
exchanges, construct is some 70 times slower on arrays, and its import alone costs more than
all of this.

Addresses are physical, sizes are bytes, everything is little endian.
"""

from __future__ import annotations

import pkgutil
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from enum import IntFlag
from itertools import pairwise

from pykexec.abi.kexec import PAGE_SIZE
from pykexec.errors import CheckFailed, KexecError, UsageError
from pykexec.memory.ranges import BadRange, PhysRange

MAGIC = b"PYKEXEC1"

_HEAD = struct.Struct("<8xII")
"""At offset 0: a jump over the parameters, then the blob's bufsz and memsz."""

PARAMS_OFFSET = 16
_PARAMS = struct.Struct("<8sQQQII32sQHHIQQQ")
"""struct stub_params: magic, then the fields of `StubParams` in their order."""

_REGION = struct.Struct("<QQ32s")
"""struct region and struct seal: addr, size, sha256."""

_EXCHANGE = struct.Struct("<QQQ")
"""struct exchange: dest, source, size."""

PARAMS_END = PARAMS_OFFSET + _PARAMS.size
REGION_SIZE = _REGION.size
EXCHANGE_SIZE = _EXCHANGE.size
SEAL_SIZE = _REGION.size

SHA256_SIZE = 32
LAST_PORT = 0xFFFF - 7
"""A UART has eight ports."""


class BadStub(CheckFailed):
    """Bytes that should be a stub, its tables or its seal, and are not."""

    code = "bad-stub"


class BadStubParams(UsageError):
    """A value that has no place in the stub's records."""

    code = "bad-stub-params"


class BadExchange(UsageError):
    """An exchange that would lose memory instead of moving it."""

    code = "bad-exchange"


class StubFlag(IntFlag):
    """`StubParams.flags`."""

    NONE = 0
    NO_CHECKS = 1
    """Start without a look at any digest."""
    ENTRY_32 = 2
    """The entry is in 32-bit protected mode, without paging."""


def _check_digest(digest: bytes) -> None:
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
        _check_digest(self.sha256)
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
    """`size` bytes at `dest` and at `source` change places; whole pages."""

    dest: int
    source: int
    size: int

    def __post_init__(self) -> None:
        for name, value in (("dest", self.dest), ("source", self.source), ("size", self.size)):
            if value % PAGE_SIZE:
                raise BadExchange(
                    f"{self} is not of whole pages: {name} {value:#x} is no multiple of "
                    f"{PAGE_SIZE:#x}"
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
    """What vouches for bytes that come into being after the load, the ELF core headers.

    The record is zero until they are bound; the stub takes that for a mismatch.
    """

    addr: int = 0
    size: int = 0
    sha256: bytes = bytes(SHA256_SIZE)

    def __post_init__(self) -> None:
        _check_digest(self.sha256)
        if self.size:
            _check_span("seal", self.addr, self.size)

    @classmethod
    def of(cls, addr: int, contents: bytes | memoryview) -> Seal:
        """The seal on `contents`, which must not be empty: that would be never bound."""
        if not len(contents):
            raise BadStubParams(f"nothing to seal at {addr:#x}")
        return cls(addr, len(contents), sha256(contents))

    @property
    def bound(self) -> bool:
        return self.size > 0

    def __bytes__(self) -> bytes:
        """The record of SEAL_SIZE bytes, as it lies at `StubParams.seal`."""
        return _REGION.pack(self.addr, self.size, self.sha256)


UNBOUND = Seal()


REGISTERS = ("boot_params", "entry", "rax", "rbx", "rdi")
"""What the kernel sees of the parameters."""


@dataclass(frozen=True, slots=True)
class StubParams:
    """What the stub is told, in the order of struct stub_params."""

    boot_params: int
    """RSI at the entry: address of the zero page, 0 for what is not Linux."""
    entry: int
    """Address of the kernel's entry: load address + 0x200 for the 64-bit one of Linux."""
    tables: int
    """Address of the bytes that `tables()` made; not looked at when there are no records."""
    n_regions: int
    n_exchanges: int
    tables_sha256: bytes
    """Over exactly those records."""
    seal: int = 0
    """Address of a `Seal`, or 0: nothing is sealed."""
    serial_port: int = 0
    """I/O port of a UART that has been set up already (0x3f8), or 0: be silent."""
    flags: StubFlag = StubFlag.NONE
    reset_seconds: int = 0
    """From a mismatch to the reset; 0: halt."""
    rax: int = 0
    """RAX, RBX and RDI at the entry; Linux wants zeros. With ENTRY_32 their lower halves,
    and EDI is the argument on the stack too."""
    rbx: int = 0
    rdi: int = 0

    def __post_init__(self) -> None:
        _check_digest(self.tables_sha256)
        for name, limit in (
            *((name, 1 << (32 if self.enters_32 else 64)) for name in REGISTERS),
            *((name, 1 << 64) for name in ("tables", "seal")),
            *((name, 1 << 32) for name in ("n_regions", "n_exchanges", "reset_seconds")),
            ("serial_port", LAST_PORT + 1),
        ):
            value = getattr(self, name)
            if not 0 <= value < limit:
                raise BadStubParams(f"stub: {name} {value:#x} is not in 0..{limit:#x}")
        told = self.boot_params or self.rax or self.rbx or self.rdi
        for name, value in (("boot_params", told), ("entry", self.entry)):
            if not value:
                raise BadStubParams(f"stub: {name} is not set")
        if self.tables_size and not self.tables:
            raise BadStubParams("stub: tables is not set")
        if int(self.flags) & ~int(StubFlag.NO_CHECKS | StubFlag.ENTRY_32):
            raise BadStubParams(f"stub: unknown flags {int(self.flags):#x}")

    @classmethod
    def around(
        cls,
        tables: bytes,
        *,
        at: int,
        n_regions: int,
        boot_params: int,
        entry: int,
        seal: int = 0,
        serial_port: int = 0,
        flags: StubFlag = StubFlag.NONE,
        reset_seconds: int = 0,
        rax: int = 0,
        rbx: int = 0,
        rdi: int = 0,
    ) -> StubParams:
        """With the counts and the digest of finished `tables`, which will lie at `at`."""
        n_exchanges, rest = divmod(len(tables) - n_regions * REGION_SIZE, EXCHANGE_SIZE)
        if n_exchanges < 0 or rest:
            raise BadStubParams(f"tables of {len(tables)} bytes do not hold {n_regions} regions")
        return cls(
            boot_params=boot_params,
            entry=entry,
            tables=at,
            n_regions=n_regions,
            n_exchanges=n_exchanges,
            tables_sha256=sha256(tables),
            seal=seal,
            serial_port=serial_port,
            flags=flags,
            reset_seconds=reset_seconds,
            rax=rax,
            rbx=rbx,
            rdi=rdi,
        )

    @property
    def enters_32(self) -> bool:
        return bool(self.flags & StubFlag.ENTRY_32)

    @property
    def tables_size(self) -> int:
        """Bytes of the tables."""
        return self.n_regions * REGION_SIZE + self.n_exchanges * EXCHANGE_SIZE

    @property
    def checks(self) -> bool:
        return not self.flags & StubFlag.NO_CHECKS


def stub_image(params: StubParams) -> bytes:
    """The stub with its parameters: STUB_SIZE bytes for a segment of STUB_MEMSZ.

    It is entered at its first byte, and may lie at any page.
    """
    values = (getattr(params, item.name) for item in fields(params))
    return _BLOB[:PARAMS_OFFSET] + _PARAMS.pack(MAGIC, *values) + _BLOB[PARAMS_END:]


def parse_params(blob: bytes, *, same_code: bool = True) -> StubParams:
    """What a loaded stub was told.

    `blob` may be longer than the stub: the whole segment, say. With `same_code` the code around
    the parameters must be that of this pykexec: only then will it do what these values say.
    Raises BadStub for anything else.
    """
    if len(blob) < STUB_SIZE:
        raise BadStub(f"not a stub: {len(blob):#x} bytes, {STUB_SIZE:#x} expected")
    magic, *values = _PARAMS.unpack_from(blob, PARAMS_OFFSET)
    if magic != MAGIC:
        raise BadStub(f"not a stub: magic {magic!r}, {MAGIC!r} expected")
    head, tail = blob[:PARAMS_OFFSET], blob[PARAMS_END:STUB_SIZE]
    if same_code and (head != _BLOB[:PARAMS_OFFSET] or tail != _BLOB[PARAMS_END:]):
        raise BadStub(
            "the stub's code is not that of this pykexec",
            hint="damaged, or loaded by another version of pykexec: load again",
        )
    names = [item.name for item in fields(StubParams)]
    known = dict(zip(names, values, strict=True))
    try:
        return StubParams(**{**known, "flags": StubFlag(known["flags"])})
    except BadStubParams as error:
        raise BadStub(error.message) from None


def tables(
    regions: Iterable[Region],
    exchanges: Iterable[Exchange],
    keep: Iterable[tuple[str, PhysRange]] = (),
) -> bytes:
    """The records at `StubParams.tables`: all regions, then all exchanges, in this order.

    Raises BadExchange as `check_exchanges` does.
    """
    exchanges = tuple(exchanges)
    check_exchanges(exchanges, keep)
    return b"".join(
        [
            *(_REGION.pack(item.addr, item.size, item.sha256) for item in regions),
            *(_EXCHANGE.pack(item.dest, item.source, item.size) for item in exchanges),
        ]
    )


def check_exchanges(
    exchanges: Sequence[Exchange], keep: Iterable[tuple[str, PhysRange]] = ()
) -> None:
    """Refuse exchanges that meet: memory moved twice is where nobody looks for it.

    `keep` names what the stub lives on while it works and must not be moved: itself, the
    tables, the page tables. Raises BadExchange that names both.
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
    """The inverse of `tables`; bytes behind the records are not looked at.

    Raises BadStub, which names the record. It does not look at the digest.
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
        for number, row in enumerate(_REGION.iter_unpack(records[:split])):
            what = f"region {number}: "
            regions.append(Region(*row))
        exchanges = []
        for number, row in enumerate(_EXCHANGE.iter_unpack(records[split:size])):
            what = f"exchange {number}: "
            exchanges.append(Exchange(*row))
        what = ""
        check_exchanges(exchanges)
    except (BadExchange, BadStubParams) as error:
        raise BadStub(f"stub tables: {what}{error.message}") from None
    return tuple(regions), tuple(exchanges)


def parse_seal(record: bytes) -> Seal:
    """The seal in the first SEAL_SIZE bytes; ask it whether it is `bound`. Raises BadStub."""
    if len(record) < SEAL_SIZE:
        raise BadStub(f"not a seal: {len(record):#x} bytes, {SEAL_SIZE:#x} expected")
    try:
        return Seal(*_REGION.unpack_from(record))
    except BadStubParams as error:
        raise BadStub(error.message) from None


def sha256(contents: bytes | memoryview) -> bytes:
    """The digest that the stub will make of these bytes."""
    import hashlib  # loads OpenSSL: not for those who only list or explain

    return hashlib.sha256(contents).digest()


def _load_blob(name: str) -> bytes:
    blob = pkgutil.get_data(__name__, name)  # also from a zip file
    if not blob:
        raise KexecError(f"{name} is missing from this installation of pykexec")
    return blob


def real_mode_code() -> bytes:
    """What takes a kernel from a stub's 32-bit entry to its real-mode entry.

    It lies at a multiple of 16 below 1 MiB, is entered at its first byte, and is told by
    registers: EDI its own address, EBX the segment of the setup code, EAX the top of the
    stack there. real_mode.S is its source.
    """
    return _load_blob("real_mode.bin")


_BLOB = _load_blob("stub.bin")
STUB_SIZE: int
"""Bytes of the blob: bufsz of its segment. At most a page."""
STUB_MEMSZ: int
"""Bytes that it needs: memsz of its segment, whole pages, with its stack and scratch page."""
STUB_SIZE, STUB_MEMSZ = _HEAD.unpack_from(_BLOB)
