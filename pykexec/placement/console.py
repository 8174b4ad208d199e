"""Where the stub prints its messages: on the running kernel's serial port, or nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.errors import UsageError
from pykexec.frozen import dataclass
from pykexec.machine import Machine, SerialConsole, Unknown
from pykexec.memory.ranges import PhysRange
from pykexec.purgatory import LAST_PORT

if TYPE_CHECKING:
    from pykexec.placement.limits import Limits


REGISTERS = 0x1000
"""Bytes that the registers of a UART have at most; they are in one page."""


@dataclass(frozen=True, slots=True)
class StubConsole:
    """`port` is the I/O port of a UART that is already set up, or the physical address of `uart` if
    that is in memory; or 0, with which the stub is silent and does not access any. `why` is for
    `load -v`."""

    port: int
    why: str
    uart: SerialConsole | None = None
    """The memory-mapped UART at `port`."""

    def __str__(self) -> str:
        if not self.port:
            return f"none: {self.why}"
        return f"{'address' if self.uart else 'port'} {self.port:#x} ({self.why})"


SILENT = StubConsole(0, "no serial console is known")


def stub_console(
    machine: Machine, limits: Limits, asked: int | SerialConsole | None = None
) -> StubConsole:
    """The requested port or UART, or that of the running kernel's console at the speed that the
    kernel has set. Raises UsageError for a requested one that the stub cannot write to."""
    if isinstance(asked, int):
        if limits.uart_in_memory:
            raise UsageError(
                f"{machine.name} has no I/O port {asked:#x}: its UARTs are in memory",
                hint="name a UART of this machine, or none",
            )
        return StubConsole(asked, "requested by the user")
    found = machine.console if asked is None else asked
    if found is None:
        return StubConsole(0, "the running kernel has no serial console that the stub supports")
    if isinstance(found, Unknown):
        return StubConsole(0, f"the running kernel's serial console is {found}")
    chosen = _in_memory(found, machine, limits) if limits.uart_in_memory else _at_port(found)
    if asked is not None and not chosen.port:
        raise UsageError(chosen.why, hint="name another UART of this machine, or none")
    return chosen


def _at_port(found: SerialConsole) -> StubConsole:
    """A memory-mapped UART is not used: the kernel's identity map has only RAM, ACPI tables and NVS
    (arch/x86/kernel/machine_kexec_64.c:init_pgtable), and a fault would cost the dump."""
    if found.in_memory:
        return StubConsole(0, f"{name(found)} is memory-mapped, and the stub does not map it")
    if found.shift or not 0 < found.address <= LAST_PORT:
        return StubConsole(0, f"{name(found)} has ports that the stub does not support")
    return StubConsole(found.address, name(found))


def _in_memory(found: SerialConsole, machine: Machine, limits: Limits) -> StubConsole:
    """The stub maps it, but not an address in RAM, to which it would write. An I/O port is
    somewhere in a window of a PCI host bridge."""
    if not found.in_memory:
        return StubConsole(0, f"{name(found)} has I/O ports, which the stub does not support")
    if not found.address:
        return StubConsole(0, f"the address of {name(found)} is hidden")
    if not found.width:
        return StubConsole(0, f"{name(found)} has registers that the stub does not support")
    if found.address >= limits.destinations.end:
        return StubConsole(0, f"{name(found)} has an address that the stub cannot map")
    registers, memory_map = PhysRange.sized(found.address, REGISTERS), machine.memory_map
    if not isinstance(memory_map, Unknown) and memory_map.ram.overlaps(registers):
        return StubConsole(0, f"{name(found)} has an address in RAM")
    return StubConsole(found.address, name(found), found)


def name(console: SerialConsole) -> str:
    """The console, its speed, and its source."""
    at = f" at {console.speed} baud" if console.speed else ""
    return f"{console.name}{at}, {console.source}"
