"""The stub itself: its code, and the parameters after its first instruction."""

from __future__ import annotations

import pkgutil
import struct
from dataclasses import fields, replace
from enum import IntFlag

from pykexec.errors import KexecError
from pykexec.frozen import dataclass
from pykexec.purgatory.job import (
    EXCHANGE_SIZE,
    REGION_SIZE,
    SHA256_SIZE,
    BadStub,
    BadStubParams,
    check_digest,
    sha256,
)

MAGIC = b"PYKEXEC1"

HEAD = struct.Struct("<8xII")
"""At offset 0: a jump over the parameters, then the blob's bufsz and memsz."""

PARAMS_OFFSET = 16
PARAMS = struct.Struct("<8sQQQII32sQHHIQQQQII")
"""struct stub_params: magic, then the fields of `StubParams` in order."""

PARAMS_END = PARAMS_OFFSET + PARAMS.size
LAST_PORT = 0xFFFF - 7
"""A UART has eight ports."""


class StubFlag(IntFlag):
    """`StubParams.flags`."""

    NONE = 0
    NO_CHECKS = 1
    """Start without checking any digest."""
    ENTRY_32 = 2
    """The entry is in 32-bit protected mode, without paging."""
    IN_USE = 4
    """The destinations were in use until now, and devices may still write there: stop them first,
    and check the digests again before the entry."""


REGISTERS = ("boot_params", "entry", "rax", "rbx", "rdi")
"""The parameters that are visible to the kernel."""


@dataclass(frozen=True, slots=True)
class StubParams:
    """The parameters of the stub, in the order of struct stub_params."""

    boot_params: int
    """RSI at the entry: address of the zero page, 0 for an image other than Linux."""
    entry: int
    """Address of the kernel's entry: load address + 0x200 for the 64-bit one of Linux."""
    tables: int = 0
    """Address of the bytes made by `tables()`; ignored if there are no records."""
    n_regions: int = 0
    n_exchanges: int = 0
    tables_sha256: bytes = bytes(SHA256_SIZE)
    """Digest of exactly those records."""
    seal: int = 0
    """Address of a `Seal`, or 0 if nothing is sealed."""
    serial_port: int = 0
    """I/O port of a UART that is already set up (e.g. 0x3f8), or 0 for no output."""
    flags: StubFlag = StubFlag.NONE
    reset_seconds: int = 0
    """Time from a mismatch to the reset; 0 to halt."""
    rax: int = 0
    """RAX, RBX and RDI at the entry; zeros for Linux. With ENTRY_32 their lower halves, and EDI is
    also the argument on the stack."""
    rbx: int = 0
    rdi: int = 0
    page_tables: int = 0
    """Address of an identity map for the stub, if a 32-bit kernel enters it without paging; 0 if it
    is entered in 64-bit mode."""
    settle_seconds: int = 0
    """Time to wait between the checks and the exchange."""
    tsc_khz: int = 0
    """Frequency of the TSC, to measure that time; 0 to use the 8254 timer."""

    def __post_init__(self) -> None:
        check_digest(self.tables_sha256)
        for name, limit in (
            *((name, 1 << (32 if self.enters_32 else 64)) for name in REGISTERS),
            *((name, 1 << 64) for name in ("tables", "seal")),
            *((name, 1 << 32) for name in ("n_regions", "n_exchanges", "reset_seconds")),
            *((name, 1 << 32) for name in ("settle_seconds", "tsc_khz")),
            ("page_tables", 1 << 32),
            ("serial_port", LAST_PORT + 1),
        ):
            value = getattr(self, name)
            if not 0 <= value < limit:
                raise BadStubParams(f"stub: {name} {value:#x} is not in 0..{limit:#x}")
        registers = self.boot_params or self.rax or self.rbx or self.rdi
        for name, value in (("boot_params", registers), ("entry", self.entry)):
            if not value:
                raise BadStubParams(f"stub: {name} is not set")
        if self.tables_size and not self.tables:
            raise BadStubParams("stub: tables is not set")
        if int(self.flags) & ~sum(StubFlag):
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

    It is entered at its first byte, and may be at any page.
    """
    values = (getattr(params, item.name) for item in fields(params))
    return BLOB[:PARAMS_OFFSET] + PARAMS.pack(MAGIC, *values) + BLOB[PARAMS_END:]


def parse_params(blob: bytes, *, same_code: bool = True) -> StubParams:
    """The parameters of a loaded stub.

    `blob` may be longer than the stub, such as the complete segment. With `same_code` the code
    around the parameters must be that of this pykexec: only then do the parameters have this
    meaning. Raises BadStub for anything else.
    """
    if len(blob) < STUB_SIZE:
        raise BadStub(f"not a stub: {len(blob):#x} bytes, expected {STUB_SIZE:#x}")
    magic, *values = PARAMS.unpack_from(blob, PARAMS_OFFSET)
    if magic != MAGIC:
        raise BadStub(f"not a stub: magic {magic!r}, expected {MAGIC!r}")
    head, tail = blob[:PARAMS_OFFSET], blob[PARAMS_END:STUB_SIZE]
    if same_code and (head != BLOB[:PARAMS_OFFSET] or tail != BLOB[PARAMS_END:]):
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


def _load_blob(name: str) -> bytes:
    """A built file of this package. Raises KexecError if the installation lacks it."""
    blob = pkgutil.get_data(__package__, name)  # also from a zip file
    if not blob:
        raise KexecError(f"{name} is missing from this installation of pykexec")
    return blob


def real_mode_code() -> bytes:
    """The code that leads from a stub's 32-bit entry to a kernel's real-mode entry.

    It must be at a multiple of 16 below 1 MiB, and is entered at its first byte, with its own
    address in EDI, the segment of the setup code in EBX, and the top of the stack there in EAX. The
    source is real_mode.S.
    """
    return _load_blob("real_mode.bin")


BLOB = _load_blob("stub.bin")
STUB_SIZE: int
"""Size of the blob, and bufsz of its segment: at most a page."""
STUB_MEMSZ: int
"""Bytes that it needs, and memsz of its segment: whole pages, including its stack and scratch
page."""
STUB_SIZE, STUB_MEMSZ = HEAD.unpack_from(BLOB)
