"""The regions that crashkernel= reserved, which of them is used, and how to get one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.errors import DoesNotFit
from pykexec.machine import Machine, Unknown, known
from pykexec.placement.boot_protocol import boot_protocol
from pykexec.remedies import Use, Wish, any_of

if TYPE_CHECKING:
    from pykexec.memory.ranges import PhysRange, RangeSet


class NothingReserved(DoesNotFit):
    """No Crash kernel region to load into."""

    code = "nothing-reserved"


class RegionInTheWay(DoesNotFit):
    """The stub would exchange itself: its region is below 640 KiB, where a capture kernel's
    trampoline must be."""

    code = "region-in-the-way"


def reserved_region(machine: Machine) -> PhysRange:
    """The highest region, which the kernel uses for images if crashkernel=SIZE,high reserved a
    second one. Raises NothingReserved, RegionInTheWay, NotSupported if unknown."""
    reserved = known(
        machine.crash_kernel,
        f"the crash region of {machine.name}",
        "run as root: /proc/iomem hides addresses from other users",
    )
    if not reserved:
        raise NothingReserved(
            "there is no crash region",
            hint=any_of(
                "run pykexec region make 256M, boot with crashkernel=256M",
                Use(Wish.CRASH_BY_NORMAL),
            ),
        )
    if why := in_the_way(machine, reserved):
        raise RegionInTheWay(why, hint="use crashkernel= without an address after @")
    return reserved.ranges[-1]


def in_the_way(machine: Machine, reserved: RangeSet) -> str | None:
    """Why no capture kernel can be started from there, as with crashkernel=64K@512K, which some
    kernels allow."""
    needed = boot_protocol(machine).limits.low_memory
    if needed is None or not (low := reserved.within(needed)):
        return None
    return f"the crash region {low.ranges[0]} is in memory that the stub exchanges"


def boot_with(machine: Machine, kib: int) -> str:
    """How to get a reservation of this many KiB on this machine, with the boot loader's file."""
    place = machine.bootloader
    if isinstance(place, Unknown):
        return f"boot with crashkernel={kib}K"
    applied = f", then run {place.apply}" if place.apply else ""
    return f"add crashkernel={kib}K to {place.file}{applied}, then reboot"
