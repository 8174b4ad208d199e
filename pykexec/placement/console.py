"""Where the stub prints its messages: on the running kernel's serial port, or nowhere."""

from __future__ import annotations

from pykexec.frozen import dataclass
from pykexec.machine import Machine, SerialConsole, Unknown
from pykexec.purgatory import LAST_PORT


@dataclass(frozen=True, slots=True)
class StubConsole:
    """`port` is the I/O port of a UART that is already set up, or 0, with which the stub is silent
    and does not access any port. `why` is for `load -v`."""

    port: int
    why: str

    def __str__(self) -> str:
        return f"port {self.port:#x} ({self.why})" if self.port else f"none: {self.why}"


SILENT = StubConsole(0, "no serial console is known")


def stub_console(machine: Machine, asked: int | None = None) -> StubConsole:
    """The requested port, or that of the running kernel's console at the speed that the kernel has
    set.

    A memory-mapped UART is not used: the kernel's identity map has only RAM, ACPI tables and NVS
    (arch/x86/kernel/machine_kexec_64.c:init_pgtable), and a fault would cost the dump.
    """
    if asked is not None:
        return StubConsole(asked, "requested by the user")
    found = machine.console
    if found is None:
        return StubConsole(0, "the running kernel has no serial console")
    if isinstance(found, Unknown):
        return StubConsole(0, f"the running kernel's serial console is {found}")
    if found.in_memory:
        return StubConsole(0, f"{name(found)} is memory-mapped, and the stub does not map it")
    if found.shift or not 0 < found.address <= LAST_PORT:
        return StubConsole(0, f"{name(found)} has ports that the stub does not support")
    return StubConsole(found.address, name(found))


def name(console: SerialConsole) -> str:
    """The console, its speed, and its source."""
    at = f" at {console.speed} baud" if console.speed else ""
    return f"{console.name}{at}, {console.source}"
