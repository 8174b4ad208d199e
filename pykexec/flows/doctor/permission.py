"""Whether loading is permitted: capability, seccomp, sysctls, limits, lockdown, signatures."""

from __future__ import annotations

from collections.abc import Iterator

from pykexec.flows.doctor.row import Row, fail, ok, unknown, warn
from pykexec.machine import Machine, Unknown
from pykexec.placement.syscall_choice import UNLOCK, lacks_file_load

LOCKDOWN_FIX = f"load a signed kernel with kexec_file_load, or {UNLOCK}"


def rows(machine: Machine) -> Iterator[Row]:
    yield capability(machine)
    yield seccomp(machine)
    yield _load_disabled(machine)
    yield _load_limit("reboot", machine.kexec.load_limit_reboot)
    yield _load_limit("panic", machine.kexec.load_limit_panic)
    yield lockdown(machine)
    yield secure_boot(machine)
    yield signature(machine)


def capability(machine: Machine) -> Row:
    name, found = "CAP_SYS_BOOT", machine.capabilities
    if isinstance(found, Unknown):
        return unknown(name, found)
    if name in found:
        return ok(name, "CapEff in /proc/self/status contains it")
    return fail(name, "CapEff in /proc/self/status lacks it", "run as root, outside of containers")


def seccomp(machine: Machine) -> Row:
    name, found = "seccomp", machine.seccomp
    if isinstance(found, Unknown):
        return unknown(name, found)
    if not found:
        return ok(name, "no filter is active for this process")
    return warn(
        name,
        "a filter restricts the system calls of this process",
        "run outside of containers and sandboxes, where kexec_load returns EPERM or ENOSYS",
    )


def _load_disabled(machine: Machine) -> Row:
    name, found = "kexec_load_disabled", machine.kexec.load_disabled
    if isinstance(found, Unknown):
        return unknown(name, found)
    if not found:
        return ok(name, "kernel.kexec_load_disabled is 0")
    return fail(
        name,
        "kernel.kexec_load_disabled is 1",
        "only a reboot clears it: remove the sysctl from /etc/sysctl.d",
    )


def _load_limit(kind: str, found: int | Unknown) -> Row:
    """-1 means no limit; the files exist since 6.3."""
    name = f"kexec_load_limit_{kind}"
    if isinstance(found, Unknown):
        if "no such file" in found.why:
            return ok(name, "this kernel has no such limit")
        return unknown(name, found)
    if found < 0:
        return ok(name, "no limit is set")
    if found:
        return warn(
            name,
            f"{found} left",
            "use --dry-run first: every load and unload counts, even a failed one",
        )
    return fail(name, "0 left", "only a reboot resets it")


def lockdown(machine: Machine) -> Row:
    name, found = "lockdown", machine.lockdown
    if isinstance(found, Unknown):
        return unknown(name, found)
    if found == "none":
        return ok(name, "none")
    what = "kexec_load is" if found == "integrity" else "kexec_load and /proc/kcore are"
    if lacks_file_load(machine):
        return fail(name, f"{found}: {what} disabled", UNLOCK)
    return warn(name, f"{found}: {what} disabled", LOCKDOWN_FIX)


def secure_boot(machine: Machine) -> Row:
    name, found = "Secure Boot", machine.secure_boot
    if isinstance(found, Unknown):
        return unknown(name, found)
    if not found:
        return ok(name, "not booted through EFI" if machine.firmware.efi is None else "off")
    return warn(name, "on", "kernels of distributions lock down then: see lockdown")


def signature(machine: Machine) -> Row:
    name, forced = "kernel signature", machine.option("CONFIG_KEXEC_SIG_FORCE")
    if isinstance(forced, Unknown):
        return unknown(name, forced)
    if forced == "y":
        return warn(name, "CONFIG_KEXEC_SIG_FORCE=y", "kexec_file_load accepts only signed kernels")
    if machine.option("CONFIG_KEXEC_SIG") == "y":
        return ok(name, "checked by kexec_file_load, but not required (CONFIG_KEXEC_SIG=y)")
    return ok(name, "not checked (CONFIG_KEXEC_SIG is not set)")
