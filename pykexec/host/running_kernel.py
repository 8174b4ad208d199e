"""The running kernel: release, build options, settings and symbols."""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection

from pykexec.arch import ARM64
from pykexec.host.arm64.code_symbols import FUNCTIONS, NEIGHBOURS, completed
from pykexec.host.kallsyms import NoSymbol, symbol_addresses
from pykexec.host.kernel_map import KALLSYMS, PER_CPU_SYMBOLS, KcoreLoad, kcore_loads
from pykexec.host.module import REGION_SYMBOLS
from pykexec.host.root import THIS_MACHINE, Folder, Root, number, text
from pykexec.host.tsc import TSC_SYMBOL
from pykexec.machine import NoteArea, Sysctls, Unknown

CONFIG_MAX = 8 << 20
"""Limit in bytes for an unpacked kernel configuration; real ones have 300 KiB."""
NOTE_MAX = 4 << 20
"""Limit in bytes for a note in a capture kernel (fs/proc/vmcore.c: kmalloc)."""
VMCOREINFO = ("/sys/kernel/kexec/vmcoreinfo", "/sys/kernel/vmcoreinfo")

TELLING_SYMBOLS = (
    *("kexec_image", "kexec_crash_image", "kexec_pa_swap_page", "relocate_kernel"),
    *REGION_SYMBOLS,
)
"""kexec_pa_swap_page was added with the relocate_kernel that copies unless it preserves the context
(6.14); the images need CONFIG_KALLSYMS_ALL."""


def config(root: Root, release: str | Unknown) -> dict[str, str] | Unknown:
    """Build options, from the kernel itself or from the file that a distribution ships."""
    packed = root.read("/proc/config.gz")
    if isinstance(packed, bytes):
        options = gunzip(packed, CONFIG_MAX)
        return options if isinstance(options, Unknown) else _parse_config(options.decode("latin-1"))
    if isinstance(release, Unknown):
        return Unknown(f"{packed.why}; {release.why}")
    if not re.fullmatch(r"[\w.+~-]{1,64}", release):
        return Unknown(f"{packed.why}; not a file name: {release[:40]!r}")
    why = [packed.why]
    for path in (f"/boot/config-{release}", f"/lib/modules/{release}/config"):
        found = text(root, path, CONFIG_MAX)
        if isinstance(found, str):
            return _parse_config(found)
        why.append(found.why)
    return Unknown("; ".join(why))


def gunzip(packed: bytes, limit: int) -> bytes | Unknown:
    """Unpack at most `limit` bytes of a gzip file."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        found = unpacker.decompress(packed, limit)
    except zlib.error as error:
        return Unknown(f"/proc/config.gz: {error}")
    if not unpacker.eof:
        return Unknown(f"/proc/config.gz: truncated, or larger than {limit} bytes")
    return found


def _parse_config(found: str) -> dict[str, str]:
    """CONFIG_X=value lines without quotes; "is not set" is "n"."""
    options: dict[str, str] = {}
    for match in re.finditer(
        r"^(?:(CONFIG_\w+)=(.*)|# (CONFIG_\w+) is not set)$", found, re.MULTILINE
    ):
        if match[1]:
            options[match[1]] = match[2].strip().strip('"')
        else:
            options[match[3]] = "n"
    return options


def sysctls(root: Root) -> Sysctls:
    """The settings for panics and for hiding addresses."""
    folder = "/proc/sys/kernel"
    parameter = text(root, "/sys/module/kernel/parameters/crash_kexec_post_notifiers", 4096)
    return Sysctls(
        panic=number(root, f"{folder}/panic"),
        panic_on_oops=number(root, f"{folder}/panic_on_oops"),
        unknown_nmi_panic=number(root, f"{folder}/unknown_nmi_panic"),
        crash_kexec_post_notifiers=(
            parameter if isinstance(parameter, Unknown) else parameter in ("Y", "y", "1")
        ),
        kptr_restrict=number(root, f"{folder}/kptr_restrict"),
    )


def symbol_table(
    root: Root, architecture: str | Unknown, loads: tuple[KcoreLoad, ...] | Unknown
) -> dict[str, int] | Unknown:
    """Addresses of the kernel symbols that `Machine` needs, by name; on arm64 also those that the
    kernel's code shows.

    All users can read the names; addresses may be zeros, depending on kptr_restrict.
    """
    table = _listed_symbols(root)
    return completed(root, table, loads) if architecture in ARM64.unames else table


def addresses(names: Collection[str], root: Folder = THIS_MACHINE) -> dict[str, int]:
    """The address of each name, which the kernel lists or its code shows. Raises SymbolsHidden,
    NoSymbol."""
    try:
        return symbol_addresses(names, root)
    except NoSymbol:
        table = symbol_table(root, architecture(root), kcore_loads(root)) or {}
        if not table.keys() >= set(names):
            raise
        return {name: table[name] for name in names}


def _listed_symbols(root: Root) -> dict[str, int] | Unknown:
    names = (*TELLING_SYMBOLS, *PER_CPU_SYMBOLS, TSC_SYMBOL, "_text", "_stext")
    wanted = "|".join((*names, *FUNCTIONS, *NEIGHBOURS))
    lines = root.matching_lines(KALLSYMS, rf" (?:{wanted})\n")
    if isinstance(lines, Unknown):
        return lines
    parts = [line.split() for line in lines]
    table = {part[2]: int(part[0], 16) for part in parts if len(part) == 3 and _is_hex(part[0])}
    return table or Unknown(f"{KALLSYMS}: empty")


def _is_hex(word: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{1,16}", word) is not None


def telling_symbols(table: dict[str, int] | Unknown) -> frozenset[str] | Unknown:
    """The existing symbols of those that distinguish versions."""
    return table if isinstance(table, Unknown) else frozenset(table) & frozenset(TELLING_SYMBOLS)


def symbols_hidden(table: dict[str, int] | Unknown) -> bool | Unknown:
    """Whether their addresses are zeros."""
    return table if isinstance(table, Unknown) else not any(table.values())


def vmcoreinfo(root: Root) -> NoteArea | Unknown:
    """Physical address and size of the VMCOREINFO note, both in hex."""
    found: str | Unknown = Unknown("")
    for path in VMCOREINFO:
        found = text(root, path, 4096)
        if isinstance(found, str):
            match = re.fullmatch(r"(?:0x)?([0-9a-f]{1,16}) (?:0x)?([0-9a-f]{1,8})", found)
            if match and 0 < int(match[2], 16) <= NOTE_MAX:
                return NoteArea(int(match[1], 16), int(match[2], 16))
            return Unknown(f"{path}: not an address and a size: {found[:40]!r}")
    assert isinstance(found, Unknown)
    return found


def architecture(root: Root) -> str | Unknown:
    """utsname.machine: in /proc since 6.1; before that, derived from facts that only x86 has, and
    from the number of digits in addresses of kallsyms (the processor may have more bits), or from
    the line in /proc/cpuinfo that only arm64 has."""
    found = text(root, "/proc/sys/kernel/arch", 4096)
    if isinstance(found, Unknown) and not isinstance(
        root.read("/sys/kernel/boot_params/version", 4096), Unknown
    ):
        symbol = root.head(KALLSYMS, 9)
        narrow = isinstance(symbol, bytes) and symbol.endswith(b" ")
        flags = text(root, "/proc/cpuinfo", 4 << 20)
        return "x86_64" if isinstance(flags, str) and " lm " in flags and not narrow else "i686"
    if isinstance(found, Unknown):
        processors = root.head("/proc/cpuinfo", 4096)
        if isinstance(processors, bytes) and re.search(rb"CPU architecture\s*: 8", processors):
            return "aarch64"
    return found
