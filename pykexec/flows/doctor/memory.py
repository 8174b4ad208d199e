"""The memory map, reservations, huge pages, and notes. Rows may be pasted into bug reports, so they
never contain addresses, which KASLR hides."""

from __future__ import annotations

from collections.abc import Iterator

from pykexec.abi.hugetlb import HUGE_PAGE_SIZE
from pykexec.flows.doctor.row import Row, fail, in_mib, ok, unknown, warn
from pykexec.machine import DeviceTreeFirmware, Machine, Unknown
from pykexec.placement.boot_protocol import known_protocol
from pykexec.placement.lending import kernel_memory_left, places, why_not_lend


def rows(machine: Machine) -> Iterator[Row]:
    yield memory_map(machine)
    yield available(machine)
    yield huge_pages(machine)
    yield _movable_memory(machine)
    yield vmcoreinfo(machine)
    yield _crash_notes(machine)
    if isinstance(machine.firmware, DeviceTreeFirmware):
        yield device_tree(machine.firmware)
        yield processors(machine.firmware)
        yield exception_level(machine.firmware)
    else:
        yield rsdp(machine)


def memory_map(machine: Machine) -> Row:
    name, found = "memory map", machine.memory_map
    if isinstance(found, Unknown):
        return unknown(name, found, "run as root")
    source, ram = machine.memory_map_source, found.ram
    pieces = "1 range" if len(ram) == 1 else f"{len(ram)} ranges"
    what = f"{in_mib(ram.size)} of RAM in {pieces} ({source})"
    if machine.out_of_reach:
        what += f"; {machine.out_of_reach.size:#x} bytes above 2^52 are omitted"
        return warn(name, what, "the map is damaged: no processor has more address bits")
    if source == "/proc/iomem":
        return ok(name, what)
    return warn(name, what, "run as root: the map lacks the kernel's own ranges")


def available(machine: Machine) -> Row:
    """The image is in memory twice until the switch, and no load may use more than half of RAM."""
    name, free, total = "memory", machine.memavailable, machine.totalram
    if isinstance(free, Unknown):
        return unknown(name, free)
    if isinstance(total, Unknown):
        return unknown(name, total)
    what = (
        f"{in_mib(free)} of {in_mib(total)} is available; a load can use at most "
        f"{in_mib(total // 2)}"
    )
    if free < total // 4:
        return warn(name, what, "free memory first, or load right after boot")
    return ok(name, what)


def huge_pages(machine: Machine) -> Row:
    """pykexec enlarges the pool by the pages that it takes; pages of others are not affected."""
    name, pools = "2 MiB huge pages", machine.hugepages
    if isinstance(pools, Unknown):
        return unknown(name, pools)
    pool = next((pool for pool in pools if pool.page_size == HUGE_PAGE_SIZE), None)
    if pool is None:
        return fail(
            name, "the kernel has no pool of huge pages", "the kernel needs CONFIG_HUGETLBFS=y"
        )
    what = f"{pool.total} in the pool, {pool.free} free, {pool.reserved} reserved"
    if isinstance(machine.hugepage_users, Unknown) or not machine.hugepage_users:
        return ok(name, what)
    users = ", ".join(
        f"{user.name} [{user.pid}] {in_mib(user.size)}" for user in machine.hugepage_users[:5]
    )
    return ok(name, f"{what}; used by {users}")


TYPICAL_WINDOW = 192 << 20
"""Bytes."""


def _movable_memory(machine: Machine) -> Row:
    """Whether mode lent can be tried; whether the kernel makes a block movable, only a load finds
    out."""
    name, blocks = "movable memory", machine.memory_blocks
    if isinstance(blocks, Unknown):
        return unknown(name, blocks)
    if isinstance(machine.memory_map, Unknown):
        return unknown(name, machine.memory_map)
    if why := why_not_lend(machine):
        return warn(name, f"mode lent is not possible: {why}", "use mode in-place")
    protocol = known_protocol(machine)
    if isinstance(protocol, Unknown):
        return unknown(name, protocol)
    found = places(machine, TYPICAL_WINDOW, protocol.limits.window)
    if not found.places:
        what = f"mode lent is not possible: {found.why_none(TYPICAL_WINDOW)}"
        return warn(name, what, "use mode in-place")
    place = found.places[0]
    left = kernel_memory_left(blocks, place.window)
    return ok(
        name,
        f"mode lent (--keep kernel) can be tried: {len(place.to_convert)} blocks of "
        f"{in_mib(blocks.size)} would be made movable, and {in_mib(left)} stay for the kernel",
    )


def vmcoreinfo(machine: Machine) -> Row:
    name, found = "VMCOREINFO", machine.vmcoreinfo
    if isinstance(found, Unknown):
        return unknown(
            name, found, "dump tools need VMCOREINFO: use a kernel with CONFIG_VMCORE_INFO"
        )
    return ok(name, f"{found.size} bytes")


def _crash_notes(machine: Machine) -> Row:
    name, found = "crash notes of the CPUs", machine.cpus
    if isinstance(found, Unknown):
        return unknown(name, found, "run as root; the kernel needs CONFIG_CRASH_DUMP=y")
    return ok(name, f"{len(found)} CPUs, {found[0].size} bytes each")


def device_tree(firmware: DeviceTreeFirmware) -> Row:
    """The next kernel gets it, also where ACPI tables describe the hardware."""
    name, found = "device tree", firmware.tree
    if isinstance(found, Unknown):
        return unknown(name, found, "run as root")
    if firmware.acpi:
        return ok(name, f"{len(found)} bytes; ACPI tables describe the hardware")
    return ok(name, f"{len(found)} bytes")


def processors(firmware: DeviceTreeFirmware) -> Row:
    """Whether the kernel can switch them off, before it starts another one and after a panic."""
    name, found = "processors", firmware.cpu_methods
    if isinstance(found, Unknown):
        return unknown(name, found)
    how = ", ".join(sorted(found))
    if found == {"psci"}:
        return ok(name, f"the firmware switches them on and off ({how}, {firmware.psci})")
    return warn(
        name,
        f"the kernel cannot switch them off ({how})",
        "load a capture kernel into a crash region, or use mode in-place",
    )


def exception_level(firmware: DeviceTreeFirmware) -> Row:
    """The stub runs at each of them."""
    name, found = "exception level", firmware.exception_level
    if isinstance(found, Unknown):
        return unknown(name, found)
    return ok(name, f"the kernel was started at {found}, and starts the next one there")


def rsdp(machine: Machine) -> Row:
    """Not needed on a BIOS machine; on an EFI machine a capture kernel cannot find it otherwise."""
    name, found = "ACPI RSDP", machine.pc.acpi_rsdp
    if not isinstance(found, Unknown):
        return ok(name, "was passed on by the previous kernel")
    if machine.firmware.efi is None:
        return ok(name, "each kernel finds it below 1 MiB (BIOS)")
    return unknown(name, found, "run as root, or use --append acpi_rsdp=ADDR")
