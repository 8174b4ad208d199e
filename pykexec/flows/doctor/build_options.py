"""The build options of the running kernel, and the internals that it exposes."""

from __future__ import annotations

from collections.abc import Iterator

from pykexec.abi.kexec import KexecFlag
from pykexec.arch import ARM64, I386
from pykexec.backends.kernel.relocation import Move, relocation
from pykexec.errors import KexecError
from pykexec.flows.doctor.row import Level, Row, fail, ok, unknown, warn
from pykexec.machine import Machine, Unknown
from pykexec.placement.request import LoadRequest
from pykexec.placement.syscall_choice import ANOTHER_KERNEL, choose_syscall, no_kexec_at_all

OPTIONS = (
    (
        "CONFIG_CRASH_DUMP",
        Level.WARN,
        "use a kernel with it: one of 6.9 or later without it cannot load crash images",
    ),
    (
        "CONFIG_PROC_VMCORE",
        Level.WARN,
        "use another kernel as capture kernel: this one has no /proc/vmcore",
    ),
    (
        "CONFIG_HUGETLBFS",
        Level.WARN,
        "use a kernel with it for crash by normal, which needs huge pages",
    ),
    (
        "CONFIG_RELOCATABLE",
        Level.WARN,
        "use another kernel as capture kernel: this one can run at a single address only",
    ),
)
"""Option, and level and remedy where it is not set."""
CALLS = (
    ("CONFIG_KEXEC", "kexec_load", "use a kernel with CONFIG_KEXEC for crash by normal"),
    (
        "CONFIG_KEXEC_FILE",
        "kexec_file_load",
        "use a kernel with it where the kernel is locked down, which can load nothing else",
    ),
)
"""Option, its system call, and the remedy where only the other one is set."""


def rows(machine: Machine) -> Iterator[Row]:
    yield architecture(machine)
    yield _system_call(machine)
    for name, call, remedy in CALLS:
        yield kexec_call(machine, name, call, remedy)
    for name, level, remedy in OPTIONS:
        yield option(machine, name, level, remedy)
    if machine.architecture not in ARM64.unames:  # which has no mode kernel-swap
        yield _moves(machine)
        yield symbols(machine)
    yield kcore(machine)


def architecture(machine: Machine) -> Row:
    name, found = "architecture", machine.architecture
    if isinstance(found, Unknown):
        return unknown(name, found)
    if found == "x86_64":
        return ok(name, found)
    if found in ARM64.unames:
        size = machine.page_size
        if isinstance(size, Unknown):
            return unknown(name, size)
        if machine.arch is None:
            return fail(name, f"{found}, pages of {size} bytes", "capture the machine again")
        return ok(name, f"{found}, pages of {size >> 10} KiB")
    if machine.arch is I386:
        return warn(name, found, "use images with a 32-bit entry; crash images cannot be loaded")
    return fail(name, found, "use this machine only to plan and rehearse loads for x86_64")


def _system_call(machine: Machine) -> Row:
    """What a load without options would do, decided by the function that a load uses."""
    name = "system call"
    if isinstance(machine.config, Unknown) and isinstance(machine.kexec.in_kernel, Unknown):
        return unknown(name, machine.config)
    try:
        choice = choose_syscall(machine, LoadRequest(), None)
    except KexecError as error:
        return fail(name, error.message, error.remedy or "")
    return ok(name, f"{choice.syscall}: {choice.why}")


def kexec_call(machine: Machine, name: str, call: str, remedy: str) -> Row:
    """Whether the kernel has a system call that loads; `remedy` is for a kernel with only the
    other one."""
    value = machine.option(name)
    if isinstance(value, Unknown):
        return unknown(name, value)
    if value == "y":
        return ok(name, "y")
    what = f"is not set: this kernel has no {call}"
    if no_kexec_at_all(machine):
        return fail(name, what, ANOTHER_KERNEL)
    return warn(name, what, remedy)


def option(machine: Machine, name: str, level: Level, remedy: str) -> Row:
    value = machine.option(name)
    if isinstance(value, Unknown):
        return unknown(name, value)
    if value == "y":
        return ok(name, "y")
    return Row(name, level, "is not set", remedy)


def _moves(machine: Machine) -> Row:
    """Whether the old pages survive a kexec, which mode kernel-swap needs."""
    name, found = "pages at a kexec", relocation(machine)
    if found.swap_flags == KexecFlag(0):
        return ok(name, f"swapped: {found.why}")
    if found.swap_flags:
        return ok(name, f"swapped with KEXEC_PRESERVE_CONTEXT: {found.why}")
    if Move.UNKNOWN in (found.plain, found.preserve_context):
        return Row(name, Level.UNKNOWN, found.why)
    return warn(
        name,
        f"copied: {found.why}",
        "use another mode than kernel-swap; it needs a crash region",
    )


def symbols(machine: Machine) -> Row:
    """Mode kernel-swap reads kexec_image."""
    name = "/proc/kallsyms"
    names, hidden, restrict = machine.symbols, machine.symbols_hidden, machine.sysctls.kptr_restrict
    if isinstance(names, Unknown):
        return unknown(name, names)
    if hidden:
        fix = "sysctl kernel.kptr_restrict=1" if restrict == 2 else "run as root (CAP_SYSLOG)"
        return warn(name, f"hides addresses (kernel.kptr_restrict is {restrict})", fix)
    if "kexec_image" not in names:
        return warn(
            name,
            "does not list kexec_image",
            "use a kernel with CONFIG_KALLSYMS_ALL=y for mode kernel-swap",
        )
    return ok(name, "shows the address of kexec_image")


def kcore(machine: Machine) -> Row:
    name, found = "/proc/kcore", machine.page_offset_base
    if isinstance(found, Unknown):
        return unknown(
            name,
            found,
            "run as root, with CONFIG_PROC_KCORE=y: a dump needs the address of the direct map",
        )
    return ok(name, "contains the address of the direct map")
