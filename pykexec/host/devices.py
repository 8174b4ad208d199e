"""CPUs and their crash notes; PCI devices that can write to memory, and IOMMU groups."""

from __future__ import annotations

import re
import struct

from pykexec.host.root import Root, number, text
from pykexec.machine import CpuNotes, PciDevice, Unknown

CPUS = "/sys/devices/system/cpu"
PCI = "/sys/bus/pci/devices"
PCI_COMMAND, PCI_CLASS_REVISION = 0x04, 0x08
PCI_COMMAND_MASTER = 0x4
PCI_HEADER = 64
"""Bytes of configuration space that all users may read."""
CPUINFO_HEAD = 1 << 16


def cpu_notes(root: Root) -> tuple[CpuNotes, ...] | Unknown:
    """By CPU number; numbers may have gaps, and offline CPUs have notes too.

    Unknown if any of them cannot be read: notes are needed for all CPUs or for none.
    """
    names = root.entries(CPUS)
    if isinstance(names, Unknown):
        return names
    found: list[CpuNotes] = []
    for cpu in sorted(int(name[3:]) for name in names if re.fullmatch(r"cpu\d{1,6}", name)):
        addr = number(root, f"{CPUS}/cpu{cpu}/crash_notes", 16)
        if isinstance(addr, Unknown):
            return addr
        size = number(root, f"{CPUS}/cpu{cpu}/crash_notes_size")
        if isinstance(size, Unknown):
            return size
        found.append(CpuNotes(cpu, addr, size))
    return tuple(found) or Unknown(f"{CPUS}: lists no CPU")


def cpu_flags(root: Root) -> frozenset[str] | Unknown:
    """The "flags" line (x86), or "Features" (arm64), of the first CPU."""
    found = root.head("/proc/cpuinfo", CPUINFO_HEAD)
    if isinstance(found, Unknown):
        return found
    match = re.search(rb"^(?:flags|Features)\s*:(.*)$", found, re.MULTILINE)
    if not match:
        return Unknown("/proc/cpuinfo: has no flags")
    return frozenset(match[1].decode("ascii", "replace").split())


def pci_devices(root: Root) -> tuple[PciDevice, ...] | Unknown:
    """Every function that responds; powered-down ones are not bus masters."""
    names = root.entries(PCI)
    if isinstance(names, Unknown):
        return names
    found: list[PciDevice] = []
    for name in names:
        header = root.head(f"{PCI}/{name}/config", PCI_HEADER)
        if isinstance(header, Unknown):
            return header
        if len(header) < PCI_HEADER or header[:2] == b"\xff\xff":
            continue
        (command,) = struct.unpack_from("<H", header, PCI_COMMAND)
        (class_revision,) = struct.unpack_from("<I", header, PCI_CLASS_REVISION)
        found.append(
            PciDevice(
                address=name,
                class_code=class_revision >> 8,
                bus_master=bool(command & PCI_COMMAND_MASTER),
                driver=_driver_of(root, name),
            )
        )
    return tuple(found)


def _driver_of(root: Root, device: str) -> str:
    """The driver bound to a PCI device, or ""."""
    uevent = text(root, f"{PCI}/{device}/uevent", 4096)
    found = re.search(r"^DRIVER=(.*)$", uevent, re.MULTILINE) if isinstance(uevent, str) else None
    return found[1] if found else ""


def iommu_groups(root: Root) -> int | Unknown:
    """The number of groups that are isolated from each other."""
    names = root.entries("/sys/kernel/iommu_groups")
    return names if isinstance(names, Unknown) else len(names)
