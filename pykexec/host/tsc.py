"""The frequency of the time stamp counter, which the stub uses to wait after a panic."""

from __future__ import annotations

from pykexec.host.kernel_map import KALLSYMS, KcoreLoad, virtual
from pykexec.host.root import Root, text
from pykexec.machine import Unknown

TSC_SYMBOL = "tsc_khz"
"""arch/x86/kernel/tsc.c: unsigned int, in kHz, as calibrated by the kernel."""
CLOCKS = "/sys/devices/system/clocksource/clocksource0/available_clocksource"
PLAUSIBLE = range(100_000, 20_000_000)


def tsc_khz(
    root: Root, symbols: dict[str, int] | Unknown, loads: tuple[KcoreLoad, ...] | Unknown
) -> int | Unknown:
    """In kHz, if the kernel itself uses the TSC as a clock: it does not if the TSC stops or changes
    its frequency (kernel/time/clocksource.c:available_clocksource_show)."""
    clocks = text(root, CLOCKS, 4096)
    if isinstance(clocks, Unknown):
        return clocks
    if "tsc" not in clocks.split():
        return Unknown("the kernel does not use it as a clock")
    if isinstance(symbols, Unknown):
        return symbols
    if isinstance(loads, Unknown):
        return loads
    if not (addr := symbols.get(TSC_SYMBOL)):
        return Unknown(f"{KALLSYMS}: does not show the address of {TSC_SYMBOL}")
    found = virtual(root, loads, addr, 4)
    if isinstance(found, Unknown):
        return found
    khz = int.from_bytes(found, "little")
    return khz if khz in PLAUSIBLE else Unknown(f"{TSC_SYMBOL} is {khz}")
