"""Who may load at all: capability, seccomp, sysctls, limits, lockdown, signatures."""

from __future__ import annotations

from collections.abc import Iterator

from pykexec.flows.doctor.row import Row, fail, ok, unknown, warn
from pykexec.machine import Machine, Unknown
from pykexec.placement.syscall_choice import UNLOCK, lacks_file_load

LOCKDOWN_FIX = f"load a signed kernel by kexec_file_load, or {UNLOCK}"


def rows(machine: Machine) -> Iterator[Row]:
    yield capability(machine)
    yield seccomp(machine)
    yield load_disabled(machine)
    yield load_limit("reboot", machine.kexec.load_limit_reboot)
    yield load_limit("panic", machine.kexec.load_limit_panic)
    yield lockdown(machine)
    yield secure_boot(machine)
    yield signature(machine)


def capability(machine: Machine) -> Row:
    name, found = "CAP_SYS_BOOT", machine.capabilities
    if isinstance(found, Unknown):
        return unknown(name, found)
    if name in found:
        return ok(name, "CapEff in /proc/self/status has it")
    return fail(name, "CapEff in /proc/self/status lacks it", "run as root, outside of containers")


def seccomp(machine: Machine) -> Row:
    name, found = "seccomp", machine.seccomp
    if isinstance(found, Unknown):
        return unknown(name, found)
    if not found:
        return ok(name, "no filter on this process")
    return warn(
        name,
        "a filter decides which system calls this process may make",
        "run outside of containers and sandboxes: they answer kexec_load with EPERM or ENOSYS",
    )


def load_disabled(machine: Machine) -> Row:
    name, found = "kexec_load_disabled", machine.kexec.load_disabled
    if isinstance(found, Unknown):
        return unknown(name, found)
    if not found:
        return ok(name, "kernel.kexec_load_disabled is 0")
    return fail(
        name,
        "kernel.kexec_load_disabled is 1",
        "only a reboot clears it: take the sysctl out of /etc/sysctl.d",
    )


def load_limit(kind: str, found: int | Unknown) -> Row:
    """-1 is no limit; the files came with 6.3."""
    name = f"kexec_load_limit_{kind}"
    if isinstance(found, Unknown):
        if "no such file" in found.why:
            return ok(name, "this kernel has no such limit")
        return unknown(name, found)
    if found < 0:
        return ok(name, "no limit is set")
    if found:
        return warn(
            name, f"{found} left", "every load and unload takes one, failed ones too: dry-run first"
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
        return fail(name, f"{found}: {what} refused", UNLOCK)
    return warn(name, f"{found}: {what} refused", LOCKDOWN_FIX)


def secure_boot(machine: Machine) -> Row:
    name, found = "Secure Boot", machine.secure_boot
    if isinstance(found, Unknown):
        return unknown(name, found)
    if not found:
        return ok(name, "not booted through EFI" if machine.efi is None else "off")
    return warn(name, "on", "distribution kernels then lock down: see lockdown")


def signature(machine: Machine) -> Row:
    name, forced = "kernel signature", machine.option("CONFIG_KEXEC_SIG_FORCE")
    if isinstance(forced, Unknown):
        return unknown(name, forced)
    if forced == "y":
        return warn(name, "CONFIG_KEXEC_SIG_FORCE=y", "kexec_file_load takes signed kernels only")
    if machine.option("CONFIG_KEXEC_SIG") == "y":
        return ok(name, "checked by kexec_file_load, not required (CONFIG_KEXEC_SIG=y)")
    return ok(name, "not checked (CONFIG_KEXEC_SIG is not set)")
