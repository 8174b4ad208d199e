"""What the kernel reports about kexec: images, limits, and permissions."""

from __future__ import annotations

import re

from pykexec.host.root import Root, first_number, flag, number, text
from pykexec.machine import KexecState, Unknown

CAPABILITIES = {
    16: "CAP_SYS_MODULE",
    17: "CAP_SYS_RAWIO",
    21: "CAP_SYS_ADMIN",
    22: "CAP_SYS_BOOT",
    34: "CAP_SYSLOG",
}
"""include/uapi/linux/capability.h: the capabilities that pykexec needs."""

SYS_KERNEL = "/sys/kernel"


def kexec_state(root: Root) -> KexecState:
    """From /sys/kernel/kexec/ (6.18 and later) or the older names in its parent."""

    def state(name: str) -> int | Unknown:
        return first_number(root, f"/sys/kernel/kexec/{name}", f"/sys/kernel/kexec_{name}")

    def limit(name: str) -> int | Unknown:
        return number(root, f"/proc/sys/kernel/kexec_load_limit_{name}")

    return KexecState(
        in_kernel=_in_kernel(root),
        loaded=flag(state("loaded")),
        crash_loaded=flag(state("crash_loaded")),
        crash_size=state("crash_size"),
        crash_elfcorehdr_size=first_number(
            root, "/sys/kernel/kexec/crash_elfcorehdr_size", "/sys/kernel/crash_elfcorehdr_size"
        ),
        load_disabled=flag(number(root, "/proc/sys/kernel/kexec_load_disabled")),
        load_limit_reboot=limit("reboot"),
        load_limit_panic=limit("panic"),
    )


def _in_kernel(root: Root) -> bool | Unknown:
    """Whether kernel/ksysfs.c has created the files of CONFIG_KEXEC_CORE. It always creates
    "fscaps": a folder without that is not a complete /sys/kernel, and proves nothing."""
    names = root.entries(SYS_KERNEL)
    if isinstance(names, Unknown):
        return names
    if not {"kexec", "kexec_loaded", "kexec_crash_loaded", "kexec_crash_size"}.isdisjoint(names):
        return True
    return False if "fscaps" in names else Unknown(f"{SYS_KERNEL}: incomplete")


def lockdown(root: Root, config: dict[str, str] | Unknown) -> str | Unknown:
    """The word in brackets; also "none" if the kernel was built without lockdown."""
    path = "/sys/kernel/security/lockdown"
    found = text(root, path, 4096)
    if isinstance(found, str):
        match = re.search(r"\[(\w+)\]", found)
        return match[1] if match else Unknown(f"{path}: no level is marked: {found[:40]!r}")
    if isinstance(config, dict) and config.get("CONFIG_SECURITY_LOCKDOWN_LSM", "n") == "n":
        return "none"
    return found


def capabilities(root: Root) -> frozenset[str] | Unknown:
    """The effective capabilities of the reading process."""
    status = text(root, "/proc/self/status", 1 << 16)
    if isinstance(status, Unknown):
        return status
    match = re.search(r"^CapEff:\s*([0-9a-fA-F]{1,16})$", status, re.MULTILINE)
    if not match:
        return Unknown("/proc/self/status: has no CapEff")
    bits = int(match[1], 16)
    return frozenset(name for bit, name in CAPABILITIES.items() if bits >> bit & 1)


def seccomp(root: Root) -> bool | Unknown:
    """Whether a seccomp filter applies to this process."""
    status = text(root, "/proc/self/status", 1 << 16)
    if isinstance(status, Unknown):
        return status
    match = re.search(r"^Seccomp:\s*(\d)$", status, re.MULTILINE)
    return match[1] != "0" if match else Unknown("/proc/self/status: has no Seccomp")
