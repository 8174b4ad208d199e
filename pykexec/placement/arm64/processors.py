"""Processors that the kernel cannot switch off, because no firmware (PSCI) starts and stops them.

After a panic these stay in a loop of the first kernel (arch/arm64/kernel/smp.c:
ipi_cpu_crash_stop), in memory that must not change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.errors import NotSupported
from pykexec.machine import DeviceTreeFirmware, Unknown
from pykexec.placement.request import ImageKind, Mode
from pykexec.remedies import Use, Wish, any_of

if TYPE_CHECKING:
    from pykexec.machine import Machine
    from pykexec.placement.cmdline import CommandLine
    from pykexec.placement.request import LoadRequest

PSCI = "psci"
ALONE = frozenset(("nr_cpus=1", "maxcpus=1", "maxcpus=0", "nosmp"))
"""Words with which a kernel starts no other processor (kernel/smp.c); every capture kernel gets the
first, unless the user chooses otherwise."""


class StuckProcessors(NotSupported):
    """The kernel cannot switch the other processors off: it refuses normal images, and after a
    panic they stay in memory that the stub may move."""

    code = "stuck-processors"


def refuse_stuck(machine: Machine, request: LoadRequest) -> None:
    """Refuse a normal image (arch/arm64/kernel/machine_kexec.c:machine_kexec_prepare: EBUSY if
    cpus_are_stuck_in_kernel()), and a crash by normal that moves memory. Raises
    StuckProcessors."""
    methods = _stuck_methods(machine)
    if not methods or request.kind is ImageKind.CRASH or request.mode is Mode.IN_PLACE:
        return
    start = f"the processors are started by {methods} and cannot be switched off, so"
    crash = Use(Wish.CRASH, rest=", which does not need that")
    if request.kind is ImageKind.NORMAL:
        raise StuckProcessors(f"{start} the kernel refuses normal images (EBUSY)", hint=crash)
    raise StuckProcessors(
        f"{start} after a panic they go on running, in memory that the stub may move",
        hint=any_of(Use(Wish.MODE, "in-place", ", which moves nothing"), crash),
    )


def stuck_warnings(machine: Machine, line: CommandLine) -> tuple[str, ...]:
    """Warn about a capture kernel that wants to start them (arch/arm64/kernel/smp.c:__cpu_up)."""
    methods = _stuck_methods(machine)
    if not methods or any(word.text in ALONE for word in line.words):
        return ()
    return (
        f"the processors are started by {methods} and cannot be switched off: after a panic the "
        "others stay in the first kernel, and the capture kernel waits 5 s for each of them",
    )


def _stuck_methods(machine: Machine) -> str:
    """What starts those that cannot be switched off; empty if there are none, or one processor
    alone, or if that is unknown."""
    firmware = machine.firmware
    if not isinstance(firmware, DeviceTreeFirmware) or isinstance(firmware.cpu_methods, Unknown):
        return ""
    several = isinstance(machine.cpus, Unknown) or len(machine.cpus) > 1
    return ", ".join(sorted(firmware.cpu_methods - {PSCI})) if several else ""
