"""Addresses of variables of kernel/kexec_core.c, from the code of functions that use them.

A kernel without CONFIG_KALLSYMS_ALL, such as Debian's 6.1 for arm64, names only its functions.
Three of them take `__kexec_lock` (since 6.0), and two of these use `crashk_res`. The lock is the
only word with atomic accesses in all three. The resource is the only address that both use and that
has the contents of an empty crash region. `kexec_crash_image` is the only address that
`kexec_crash_loaded` reads, and others read it too. In any doubt, nothing is found.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from pykexec.host.arm64.code_addresses import Addresses, addresses_in
from pykexec.host.kernel_map import KcoreLoad, virtual
from pykexec.host.module import REGION_SYMBOLS
from pykexec.machine import Unknown

if TYPE_CHECKING:
    from pykexec.host.root import Root

SIZE, SHRINK, CRASH = LOCKING = ("crash_get_memory_size", "crash_shrink_memory", "__crash_kexec")
LOADED = "kexec_crash_loaded"
FUNCTIONS = (*LOCKING, LOADED)
NEIGHBOURS = (
    *("crash_kexec", "crash_save_cpu", "kexec_should_crash", "kernel_kexec"),
    *("kimage_free_pages", "kimage_alloc_pages", "sanity_check_segment_list"),
)
"""Functions of the same file, one of which follows each of those."""
CRASH_IMAGE = "kexec_crash_image"
CODE_MAX = 2048
"""Limit in bytes for a function; real ones have 150 to 400."""
RESOURCE = struct.Struct("<8Q")
"""start, end, name, flags, desc, parent, sibling, child (include/linux/ioport.h:resource)."""
RESOURCE_NAME = b"Crash kernel\0"
IORES_DESC_CRASH_KERNEL = 1
FLAGS = 0x81000200
"""IORESOURCE_BUSY | IORESOURCE_SYSTEM_RAM."""


def completed(
    root: Root,
    table: dict[str, int] | Unknown,
    loads: tuple[KcoreLoad, ...] | Unknown,
) -> dict[str, int] | Unknown:
    """The table of symbols, with the variables if it lacks them and the code shows where they
    are."""
    if isinstance(table, Unknown) or isinstance(loads, Unknown):
        return table
    if CRASH_IMAGE in table or not all(table.values()):
        return table
    parts = {name: _addresses(root, table, loads, name) for name in FUNCTIONS}
    lock, resource, image = _lock(parts), _resource(root, loads, parts), _crash_image(parts)
    found = {} if image is None else {CRASH_IMAGE: image}
    if lock is not None and resource is not None:
        found |= dict(zip(REGION_SYMBOLS, (resource, lock), strict=True))
    return found | table


def _addresses(
    root: Root, table: dict[str, int], loads: tuple[KcoreLoad, ...], name: str
) -> Addresses | None:
    """Those of a function, which ends where the next one starts."""
    start = table.get(name, 0)
    after = [table[item] for item in (*FUNCTIONS, *NEIGHBOURS) if table.get(item, 0) > start]
    size = min(after, default=0) - start
    if not start or start % 4 or size % 4 or not 0 < size <= CODE_MAX:
        return None
    code = virtual(root, loads, start, size)
    return None if isinstance(code, Unknown) else addresses_in(code, start)


def _lock(parts: dict[str, Addresses | None]) -> int | None:
    found = {part.atomic if part else frozenset() for part in map(parts.get, LOCKING)}
    words = found.pop()
    return next(iter(words)) if not found and len(words) == 1 else None


def _crash_image(parts: dict[str, Addresses | None]) -> int | None:
    loaded, shrink, crash = parts[LOADED], parts[SHRINK], parts[CRASH]
    if not loaded or not shrink or not crash or len(loaded.read) != 1:
        return None
    (found,) = loaded.read
    return found if found in shrink.read & crash.read else None


def _resource(
    root: Root, loads: tuple[KcoreLoad, ...], parts: dict[str, Addresses | None]
) -> int | None:
    size, shrink = parts[SIZE], parts[SHRINK]
    both = size.used & shrink.used if size and shrink else frozenset()
    found = [addr for addr in both if _is_empty_region(root, loads, addr)]
    return found[0] if len(found) == 1 else None


def _is_empty_region(root: Root, loads: tuple[KcoreLoad, ...], addr: int) -> bool:
    raw = virtual(root, loads, addr, RESOURCE.size)
    if isinstance(raw, Unknown):
        return False
    start, end, name, flags, desc, parent, _, _ = RESOURCE.unpack(raw)
    if (flags, desc, parent) != (FLAGS, IORES_DESC_CRASH_KERNEL, 0) or end > start:
        return False
    return virtual(root, loads, name, len(RESOURCE_NAME)) == RESOURCE_NAME
