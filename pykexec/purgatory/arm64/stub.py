"""The stub itself: its code, and the parameters after its first instruction."""

from __future__ import annotations

import pkgutil
import struct
from collections.abc import Iterable
from dataclasses import fields, replace
from enum import IntEnum, IntFlag

from pykexec.errors import KexecError
from pykexec.frozen import dataclass
from pykexec.purgatory.job import (
    EXCHANGE_SIZE,
    REGION_SIZE,
    SHA256_SIZE,
    BadStub,
    BadStubParams,
    Region,
    check_digest,
    sha256,
)

MAGIC = b"PYKEXECA"

HEAD = struct.Struct("<8xII")
"""At offset 0: a jump over the parameters, then the blob's bufsz and memsz."""

PARAMS_OFFSET = 16
PARAMS = struct.Struct("<8sQQQII32sQQQQQIIIIII")
"""struct stub_params: magic, then the fields of `StubParams` in order."""

PARAMS_END = PARAMS_OFFSET + PARAMS.size

ADDRESS_LIMIT = 1 << 48
"""The stub's page tables reach to here."""

REGION_ALIGN = 8
"""Regions start at a multiple of this: unaligned data cannot be read while the MMU is off."""


class StubFlag(IntFlag):
    """`StubParams.flags`."""

    NONE = 0
    NO_CHECKS = 1
    """Start without checking any digest."""
    RESET_SMC = 2
    """To reset, call PSCI by SMC."""
    RESET_HVC = 4
    """By HVC; at EL2 it is SMC anyway."""
    IN_USE = 8
    """Devices may write where the image goes: check the digests again after the exchanges."""


class UartKind(IntEnum):
    """`StubParams.uart_kind`."""

    NONE = 0
    PL011 = 1
    UART_8250 = 2


@dataclass(frozen=True, slots=True)
class StubParams:
    """The parameters of the stub, in the order of struct stub_params."""

    dtb: int
    """X0 at the entry: address of the device tree."""
    entry: int
    """Address of the kernel's first instruction."""
    tables: int = 0
    """Address of the bytes made by `job.tables`; ignored if there are no records."""
    n_regions: int = 0
    n_exchanges: int = 0
    tables_sha256: bytes = bytes(SHA256_SIZE)
    """Digest of exactly those records."""
    seal: int = 0
    """Address of a `Seal`, or 0 if nothing is sealed."""
    page_tables: int = 0
    """Address of the bytes made by `paging.identity_map`; 0 to work uncached, which is slow."""
    window: int = 0
    window_size: int = 0
    """Memory to clean to the point of coherency besides regions and exchanges, in bytes."""
    uart: int = 0
    """Physical address of a UART that is already set up, or 0 for no output."""
    uart_kind: UartKind = UartKind.NONE
    uart_shift: int = 0
    """Registers of an 8250 are 1 << shift bytes apart."""
    uart_width: int = 1
    """Bytes of an access: 1, 2 or 4."""
    flags: StubFlag = StubFlag.NONE
    reset_seconds: int = 0
    """Time from a mismatch to the reset; 0 to halt."""
    settle_seconds: int = 0
    """Time to wait between the checks and the exchange."""

    def __post_init__(self) -> None:
        check_digest(self.tables_sha256)
        for name, limit in (
            *((name, ADDRESS_LIMIT) for name in ADDRESSES),
            *((name, 1 << 32) for name in ("n_regions", "n_exchanges")),
            *((name, 1 << 32) for name in ("reset_seconds", "settle_seconds")),
            ("uart_shift", 4),
        ):
            value = getattr(self, name)
            if not 0 <= value < limit:
                raise BadStubParams(f"stub: {name} {value:#x} is not in 0..{limit:#x}")
        for name, value in (("dtb", self.dtb), ("entry", self.entry)):
            if not value:
                raise BadStubParams(f"stub: {name} is not set")
        if self.tables_size and not self.tables:
            raise BadStubParams("stub: tables is not set")
        if self.uart_width not in (1, 2, 4):
            raise BadStubParams(f"stub: uart_width {self.uart_width} is not 1, 2 or 4")
        if int(self.flags) & ~int(ALL_FLAGS):
            raise BadStubParams(f"stub: unknown flags {int(self.flags):#x}")

    def with_tables(self, records: bytes, *, at: int, n_regions: int) -> StubParams:
        """The parameters for finished tables (`job.tables()`) at the address `at`."""
        n_exchanges, rest = divmod(len(records) - n_regions * REGION_SIZE, EXCHANGE_SIZE)
        if n_exchanges < 0 or rest:
            raise BadStubParams(f"tables of {len(records)} bytes cannot hold {n_regions} regions")
        return replace(
            self,
            tables=at,
            n_regions=n_regions,
            n_exchanges=n_exchanges,
            tables_sha256=sha256(records),
        )

    @property
    def tables_size(self) -> int:
        """Bytes of the tables."""
        return self.n_regions * REGION_SIZE + self.n_exchanges * EXCHANGE_SIZE

    @property
    def checks(self) -> bool:
        return not self.flags & StubFlag.NO_CHECKS


ADDRESSES = ("dtb", "entry", "tables", "seal", "page_tables", "window", "window_size", "uart")
ALL_FLAGS = StubFlag.NO_CHECKS | StubFlag.RESET_SMC | StubFlag.RESET_HVC | StubFlag.IN_USE


def check_regions(regions: Iterable[Region]) -> None:
    """Check the regions. Raises BadStubParams for one that the stub could not read."""
    for item in regions:
        if item.addr % REGION_ALIGN:
            raise BadStubParams(f"region at {item.addr:#x} is not at a multiple of {REGION_ALIGN}")


def stub_image(params: StubParams) -> bytes:
    """The stub with its parameters: STUB_SIZE bytes for a segment of STUB_MEMSZ.

    It is entered at its first byte, and may be at any page of 4 KiB.
    """
    values = (getattr(params, item.name) for item in fields(params))
    return BLOB[:PARAMS_OFFSET] + PARAMS.pack(MAGIC, *values) + BLOB[PARAMS_END:]


def parse_params(blob: bytes) -> StubParams:
    """The parameters of a loaded stub, which must be that of this pykexec.

    `blob` may be longer than the stub, such as the complete segment. Raises BadStub.
    """
    if len(blob) < STUB_SIZE:
        raise BadStub(f"not a stub: {len(blob):#x} bytes, expected {STUB_SIZE:#x}")
    magic, *values = PARAMS.unpack_from(blob, PARAMS_OFFSET)
    if magic != MAGIC:
        raise BadStub(f"not a stub: magic {magic!r}, expected {MAGIC!r}")
    head, tail = blob[:PARAMS_OFFSET], blob[PARAMS_END:STUB_SIZE]
    if head != BLOB[:PARAMS_OFFSET] or tail != BLOB[PARAMS_END:]:
        raise BadStub(
            "the stub's code is not that of this pykexec",
            hint="damaged, or loaded by another version of pykexec: load again",
        )
    known = dict(zip((item.name for item in fields(StubParams)), values, strict=True))
    try:
        kind = UartKind(known["uart_kind"])
    except ValueError:
        raise BadStub(f"stub: unknown uart_kind {known['uart_kind']}") from None
    try:
        flags = StubFlag(known["flags"])
        return StubParams(**{**known, "uart_kind": kind, "flags": flags})
    except BadStubParams as error:
        raise BadStub(error.message) from None


def _load_blob() -> bytes:
    """The built stub. Raises KexecError if the installation lacks it."""
    blob = pkgutil.get_data(__package__, "stub.bin")  # also from a zip file
    if not blob:
        raise KexecError("arm64/stub.bin is missing from this installation of pykexec")
    return blob


BLOB = _load_blob()
STUB_SIZE: int
"""Size of the blob: at most two pages of 4 KiB."""
STUB_MEMSZ: int
"""Bytes that it needs, in whole pages of 4 KiB, including its stack and scratch page."""
STUB_SIZE, STUB_MEMSZ = HEAD.unpack_from(BLOB)
