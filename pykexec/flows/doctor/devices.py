"""Devices that write to memory, and how the CPUs map and encrypt it."""

from __future__ import annotations

from collections.abc import Iterator

from pykexec.flows.doctor.row import Row, fail, ok, unknown, warn
from pykexec.machine import Machine, PcFirmware, Unknown
from pykexec.placement.boot_protocol import memory_encryption

SHOWN = 6


def rows(machine: Machine) -> Iterator[Row]:
    yield _bus_masters(machine)
    yield _iommu(machine)
    yield _encryption(machine)
    if isinstance(machine.firmware, PcFirmware):
        yield paging(machine)


def _bus_masters(machine: Machine) -> Row:
    """They continue to write after a panic: nothing shuts them down."""
    name, found = "bus masters", machine.pci_devices
    if isinstance(found, Unknown):
        return unknown(name, found)
    masters = [device for device in found if device.bus_master and not device.is_bridge]
    lost = [device.address for device in masters if not device.driver]
    shown = ", ".join(
        f"{device.address} ({device.driver or 'no driver'})" for device in masters[:SHOWN]
    )
    more = f" and {len(masters) - SHOWN} more" if len(masters) > SHOWN else ""
    what = f"{len(masters)} devices can write to memory: {shown}{more}" if masters else "none"
    if lost:
        return warn(
            name, what, f"nothing quiesces {', '.join(lost[:SHOWN])}: unbound, but still enabled"
        )
    return ok(name, what)


def _iommu(machine: Machine) -> Row:
    name, found = "IOMMU", machine.iommu_groups
    if isinstance(found, Unknown):
        return unknown(name, found)
    on_a_pc = isinstance(machine.firmware, PcFirmware)
    if found:
        what = f"{found} groups in /sys/kernel/iommu_groups"
        return ok(name, f"{what}; mode in-place does not touch its tables, stub-swap may move them")
    return warn(
        name,
        "there is no active IOMMU: devices can write to the memory of the capture kernel",
        "use mode in-place (its memory was never given to a device)"
        + (", or boot with intel_iommu=on or amd_iommu=on" if on_a_pc else ""),
    )


def _encryption(machine: Machine) -> Row:
    """Whether the stub can run, and can read what the first kernel wrote."""
    name, found = "memory encryption", memory_encryption(machine)
    if isinstance(found, Unknown):
        return unknown(name, found)
    if found is None and isinstance(machine.firmware, PcFirmware):
        return ok(name, "neither SME nor a confidential guest")
    if found is None:
        return ok(name, "none is known; realms are not recognized")
    return fail(name, found.why_no_dump, found.remedy)


def paging(machine: Machine) -> Row:
    name, flags = "page tables", machine.cpu_flags
    if isinstance(flags, Unknown):
        return unknown(name, flags)
    levels = "five levels (la57)" if "la57" in flags else "four levels"
    leafs = (
        "1 GiB pages"
        if "pdpe1gb" in flags
        else "no 1 GiB pages: each GiB of RAM needs 4 KiB of the crash region"
    )
    return ok(name, f"{levels}, {leafs}")
