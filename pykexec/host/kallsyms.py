"""Addresses of kernel symbols, streamed from /proc/kallsyms (kernel/kallsyms.c:s_show)."""

from __future__ import annotations

from collections.abc import Collection

from pykexec.errors import KexecError, NotPermitted, NotSupported
from pykexec.host.kernel_map import KALLSYMS
from pykexec.host.root import THIS_MACHINE, Folder, number

KPTR_RESTRICT = "/proc/sys/kernel/kptr_restrict"


class SymbolsHidden(NotPermitted):
    """The kernel shows zeros instead of addresses."""

    code = "symbols-hidden"


class NoSymbol(NotSupported):
    """The kernel has no such symbol, or does not list it."""

    code = "no-symbol"


def symbol_addresses(names: Collection[str], root: Folder = THIS_MACHINE) -> dict[str, int]:
    """The virtual address of each name, in the kernel itself and not in a module.

    Raises SymbolsHidden, or NoSymbol for the first name that is missing.
    """
    wanted = {name.encode(): name for name in names}
    found: dict[str, int] = {}
    try:
        with open(root.open(KALLSYMS), "rb") as lines:
            for line in lines:
                fields = line.split()
                if len(fields) == 3 and (name := wanted.get(fields[2])) and name not in found:
                    found[name] = int(fields[0], 16)
                    if len(found) == len(wanted):
                        break
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise NoSymbol(
            f"{KALLSYMS}: {reason or error}".lower(), hint="the kernel needs CONFIG_KALLSYMS=y"
        ) from error
    for name in names:
        if name not in found:
            raise NoSymbol(
                f"{KALLSYMS}: has no symbol {name}",
                hint="the kernel needs CONFIG_KALLSYMS_ALL=y",
                symbol=name,
            )
        if not found[name]:
            raise hidden(root)
    return found


def hidden(root: Folder) -> KexecError:
    """Why addresses are zeros (kernel/ksyms_common.c:kallsyms_show_value)."""
    level = number(root, KPTR_RESTRICT)
    if level == 2:
        return SymbolsHidden(
            f"{KALLSYMS}: addresses are hidden from all users (kernel.kptr_restrict is 2)",
            hint="set sysctl kernel.kptr_restrict=1, and restore it afterwards",
            kptr_restrict=2,
        )
    return SymbolsHidden(
        f"{KALLSYMS}: addresses are hidden from this process",
        hint="run as root (CAP_SYSLOG is needed)",
        kptr_restrict=level if isinstance(level, int) else None,
    )
