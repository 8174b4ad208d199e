"""The machine code between two kernels, and the records that control it.

`job` has the records, which are the same on every architecture. In `x86_64` and `arm64`, `stub.S`
is the code, with comments; scripts/build-stub makes `stub.bin` from it, and `paging` builds the
page tables that it needs: always on arm64, and on x86_64 if a 32-bit kernel enters it. On x86_64
`real_mode.S` follows it if a kernel is entered in real mode. This package is the other side: it
converts values to bytes for the loader, and bytes to values for reading a loaded stub back (the
simulated kernel does what the stub would do).

The layouts are declared once, in `job` and in the `stub` of each architecture, and a test compares
them with the symbols of the built ELF file. They use `struct` instead of `abi/record.py`: a crash
image can have thousands of exchanges, whose values are read by position.

Addresses are physical, sizes are in bytes, everything is little-endian.
"""

from pykexec.purgatory.job import (
    EXCHANGE_SIZE,
    REGION_SIZE,
    SEAL_SIZE,
    UNBOUND,
    BadExchange,
    BadStub,
    BadStubParams,
    Exchange,
    Region,
    Seal,
    check_exchanges,
    parse_seal,
    parse_tables,
    sha256,
    tables,
)
from pykexec.purgatory.x86_64.stub import (
    LAST_PORT,
    MAGIC,
    PARAMS_OFFSET,
    STUB_MEMSZ,
    STUB_SIZE,
    StubFlag,
    StubParams,
    parse_params,
    real_mode_code,
    stub_image,
)

__all__ = [
    "EXCHANGE_SIZE",
    "LAST_PORT",
    "MAGIC",
    "PARAMS_OFFSET",
    "REGION_SIZE",
    "SEAL_SIZE",
    "STUB_MEMSZ",
    "STUB_SIZE",
    "UNBOUND",
    "BadExchange",
    "BadStub",
    "BadStubParams",
    "Exchange",
    "Region",
    "Seal",
    "StubFlag",
    "StubParams",
    "check_exchanges",
    "parse_params",
    "parse_seal",
    "parse_tables",
    "real_mode_code",
    "sha256",
    "stub_image",
    "tables",
]
