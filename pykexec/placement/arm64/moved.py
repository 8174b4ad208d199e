"""What goes on using memory that *stub-swap* moves after a panic, besides devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.abi.devicetree import BadDeviceTree, Node, parse_device_tree
from pykexec.machine import DeviceTreeFirmware, Efi, Unknown, version

if TYPE_CHECKING:
    from pykexec.machine import Machine

NMI_SINCE = (6, 7)
"""Commit d7402513c935: a panic stops CPUs by a pseudo-NMI."""
PSEUDO_NMI = "irqchip.gicv3_pseudo_nmi=1"
WARN_CPUS = (
    "after a panic a CPU on which interrupts are disabled, as in a lockup, goes on running the "
    f"first kernel while memory is moved, unless Linux 6.7 or later runs with {PSEUDO_NMI}"
)
WARN_ITS = (
    "the window may hold tables of the interrupt controller (GICv3 LPIs), which may still write to "
    "them after the exchange: only a kernel that was started by EFI reserves them"
)
ITS = "arm,gic-v3-its"
"""Documentation/devicetree/bindings/interrupt-controller/arm,gic-v3.yaml."""


def moved_warnings(machine: Machine) -> tuple[str, ...]:
    """A CPU is stopped by an interrupt (arch/arm64/kernel/smp.c:crash_smp_send_stop). The tables of
    LPIs are where the kernel allocated them, and reserved if EFI has a list for that
    (drivers/irqchip/irq-gic-v3-its.c:gic_reserve_range)."""
    several = isinstance(machine.cpus, Unknown) or len(machine.cpus) > 1
    cpus = (WARN_CPUS,) if several and not _stops_by_nmi(machine) else ()
    return (*cpus, *((WARN_ITS,) if _has_unreserved_its(machine) else ()))


def _stops_by_nmi(machine: Machine) -> bool:
    release = None if isinstance(machine.release, Unknown) else version(machine.release)
    words = [] if isinstance(machine.cmdline, Unknown) else machine.cmdline.split()
    return release is not None and release >= NMI_SINCE and PSEUDO_NMI in words


def _has_unreserved_its(machine: Machine) -> bool:
    firmware = machine.firmware
    if not isinstance(firmware, DeviceTreeFirmware) or isinstance(firmware.efi, Efi):
        return False
    if isinstance(firmware.tree, Unknown):
        return False
    try:
        return _names_its(parse_device_tree(firmware.tree).root)
    except BadDeviceTree:
        return False


def _names_its(node: Node) -> bool:
    names = (node.get("compatible") or b"").split(b"\0")
    return ITS.encode() in names or any(map(_names_its, node.children))
