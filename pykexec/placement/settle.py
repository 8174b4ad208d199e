"""How long the stub waits between its checks and the exchange: devices that were not stopped may
still write to memory that was in use at the panic."""

from __future__ import annotations

from typing import Literal

from pykexec.frozen import dataclass
from pykexec.machine import Machine, Unknown
from pykexec.placement.boot_protocol import boot_protocol
from pykexec.placement.request import Mode

DEFAULT_SECONDS = {Mode.IN_PLACE: 0, Mode.STUB_SWAP: 0, Mode.LENT: 10}
"""In mode *lent* the same as the kernel for crashkernel=,cma (CMA_DMA_TIMEOUT_SEC in
kernel/crash_core.c, 6.17): pending reads go to user pages and page cache."""


@dataclass(frozen=True, slots=True)
class Settle:
    """`seconds` by `clock`: the TSC at `clock_khz`; the 8254 timer, and if there is none, reads of
    its port, which take about a microsecond; or the counter of an arm64 processor."""

    seconds: int
    clock_khz: int
    why: str
    """The reason for the clock."""
    clock: Literal["tsc", "timer", "counter"]

    def __str__(self) -> str:
        return f"{self.seconds} s before anything is moved, by the {self.why}"


def settle(machine: Machine, mode: Mode, asked: int | None) -> Settle:
    """The wait of `asked` seconds, or of the mode's default, and the clock for it."""
    seconds = DEFAULT_SECONDS[mode] if asked is None else asked
    if boot_protocol(machine).limits.clock == "counter":
        return Settle(seconds, 0, "counter of the processor", "counter")
    found = machine.tsc_khz
    if isinstance(found, Unknown):
        return Settle(seconds, 0, f"8254 timer (the frequency of the TSC is {found})", "timer")
    return Settle(seconds, found, f"TSC at {found / 1000:.1f} MHz", "tsc")
