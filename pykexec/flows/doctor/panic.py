"""Whether a fault becomes a panic, and what happens then."""

from __future__ import annotations

from collections.abc import Iterator

from pykexec.flows.doctor.row import Row, ok, unknown, warn
from pykexec.machine import Machine, Unknown


def rows(machine: Machine) -> Iterator[Row]:
    yield panic_on_oops(machine)
    yield _panic_timeout(machine)
    yield _notifiers(machine)
    if machine.has_nmi_sysctl:
        yield _unknown_nmi(machine)


def panic_on_oops(machine: Machine) -> Row:
    name, found = "panic_on_oops", machine.sysctls.panic_on_oops
    if isinstance(found, Unknown):
        return unknown(name, found)
    if found:
        return ok(name, f"kernel.panic_on_oops is {found}")
    return warn(
        name,
        "kernel.panic_on_oops is 0: most oopses kill a process and make no dump",
        "sysctl kernel.panic_on_oops=1",
    )


def _panic_timeout(machine: Machine) -> Row:
    name, found = "kernel.panic", machine.sysctls.panic
    if isinstance(found, Unknown):
        return unknown(name, found)
    if found:
        return ok(name, f"reboots {found} s after a panic" if found > 0 else "reboots at once")
    return warn(
        name,
        "kernel.panic is 0: if no capture kernel starts, the machine halts forever",
        "sysctl kernel.panic=10",
    )


def _notifiers(machine: Machine) -> Row:
    name, found = "crash_kexec_post_notifiers", machine.sysctls.crash_kexec_post_notifiers
    if isinstance(found, Unknown):
        return unknown(name, found)
    if not found:
        return ok(name, "N: the crash image starts first")
    return warn(
        name,
        "Y: panic notifiers run before the crash image starts, and may hang",
        "boot without crash_kexec_post_notifiers",
    )


def _unknown_nmi(machine: Machine) -> Row:
    name, found = "unknown_nmi_panic", machine.sysctls.unknown_nmi_panic
    if isinstance(found, Unknown):
        return unknown(name, found)
    if found:
        return ok(name, f"kernel.unknown_nmi_panic is {found}")
    return warn(
        name,
        "kernel.unknown_nmi_panic is 0: an NMI from the BMC or hypervisor does not make a dump",
        "sysctl kernel.unknown_nmi_panic=1",
    )
