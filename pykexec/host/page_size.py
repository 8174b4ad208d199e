"""The page size of the running kernel, on architectures where its configuration decides it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from pykexec.arch import arch_named
from pykexec.machine import Unknown

if TYPE_CHECKING:
    from pykexec.host.root import Root

AUXV, AUXV_MAX = "/proc/self/auxv", 4096
AT_PAGESZ = 6
"""include/uapi/linux/auxvec.h."""
PAIRS = (struct.Struct("<QQ"), struct.Struct("<II"))
"""Type and value, for a program of 64 and of 32 bits."""
OPTIONS = {
    "CONFIG_ARM64_4K_PAGES": 4 << 10,
    "CONFIG_ARM64_16K_PAGES": 16 << 10,
    "CONFIG_ARM64_64K_PAGES": 64 << 10,
}


def page_size(
    root: Root, architecture: str | Unknown, config: dict[str, str] | Unknown
) -> int | Unknown:
    """Bytes: from what the kernel gave this program, or else from its build options. Nothing is
    read for an architecture with one size."""
    if isinstance(architecture, Unknown):
        return architecture
    arch = arch_named(architecture)
    if arch is None:
        return Unknown(f"the architecture {architecture} is not supported")
    if len(arch.page_sizes) == 1:
        return arch.page_size
    found = root.read(AUXV, AUXV_MAX)
    given = found if isinstance(found, Unknown) else _given(found, arch.page_sizes)
    if isinstance(given, int) or isinstance(config, Unknown):
        return given
    built = [size for name, size in OPTIONS.items() if config.get(name) == "y"]
    return built[0] if len(built) == 1 else given


def _given(auxv: bytes, sizes: tuple[int, ...]) -> int | Unknown:
    """AT_PAGESZ of an auxiliary vector, if it is one of `sizes`."""
    for pair in PAIRS:
        whole = len(auxv) // pair.size * pair.size
        for kind, value in pair.iter_unpack(auxv[:whole]):
            if kind == AT_PAGESZ and value in sizes:
                return int(value)
    return Unknown(f"{AUXV}: has no page size")
