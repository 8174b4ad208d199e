"""The kernel's checks, in order, for each errno; and the rules that a plan would break.

The table follows kernel/kexec.c, kexec_core.c, kexec_file.c and reboot.c; its stages are those of
the simulated kernel. A kernel returns only the errno, which several checks share.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pkgutil import walk_packages
from typing import TYPE_CHECKING

import pykexec
from pykexec.errors import KexecError, UsageError
from pykexec.placement.cmdline import file_load_limit

if TYPE_CHECKING:
    from pykexec.documents.plan import PlanDocument

LOAD, FILE_LOAD, REBOOT = "kexec_load", "kexec_file_load", "reboot"
ROOT_FIX = "run as root, outside of containers and units that drop CAP_SYS_BOOT"
DISABLED_FIX = "only a reboot clears it: remove the sysctl from /etc/sysctl.d"
LIMIT_FIX = "only a reboot resets it: every load and unload counts, even a failed one"
BUSY_FIX = "try again in a moment: loads, unloads, kexec_crash_size and CPU hotplug share a lock"
MEMORY_FIX = "free memory, or load less: the image needs twice its size until the switch"


@dataclass(frozen=True, slots=True)
class KernelCheck:
    """One check: its stage in the order, what it requires, the errno, and the remedy.

    `rules` are the checks of a plan that prevent it."""

    syscall: str
    stage: str
    check: str
    errno: str
    fix: str
    rules: tuple[str, ...] = ()


CHECKS = (
    KernelCheck(LOAD, "0", "the system call exists", "ENOSYS",
                "use a kernel with CONFIG_KEXEC=y; a seccomp filter can return this too"),
    KernelCheck(LOAD, "A1", "the caller has CAP_SYS_BOOT", "EPERM", ROOT_FIX),
    KernelCheck(LOAD, "A1", "kernel.kexec_load_disabled is 0", "EPERM", DISABLED_FIX),
    KernelCheck(LOAD, "A2", "kernel.kexec_load_limit_reboot (or _panic) is not used up (6.3)",
                "EPERM", LIMIT_FIX),
    KernelCheck(LOAD, "A3", "no security module requires a signed file (IMA)", "EACCES",
                "use --syscall file, also for unloading"),
    KernelCheck(LOAD, "A4", "the kernel is not locked down", "EPERM",
                "use --syscall file with a signed kernel, or turn Secure Boot off"),
    KernelCheck(LOAD, "A5", "every flag is known", "EINVAL",
                "use no flag that this kernel lacks: KEXEC_PRESERVE_CONTEXT needs "
                    "CONFIG_KEXEC_JUMP, KEXEC_UPDATE_ELFCOREHDR 6.6, "
                    "KEXEC_CRASH_HOTPLUG_SUPPORT 6.10"),
    KernelCheck(LOAD, "A6", "at most 16 segments", "EINVAL",
                "use a window inside one piece of RAM", ("segment-count",)),
    KernelCheck(LOAD, "A7", "the architecture in the flags is that of the kernel", "EINVAL",
                "use a 64-bit program with a 64-bit kernel"),
    KernelCheck(LOAD, "A8", "the segment array can be read", "EFAULT",
                "report a bug in the program"),
    KernelCheck(LOAD, "B", "no other kexec operation is in progress", "EBUSY", BUSY_FIX),
    KernelCheck(LOAD, "E", "the entry of a crash image is in the crash region",
                "EADDRNOTAVAIL", "run pykexec region make, or boot with crashkernel=",
                ("reservation-entry",)),
    KernelCheck(LOAD, "F1", "mem and memsz are page-aligned, below the limit, and do not wrap",
                "EADDRNOTAVAIL", "use whole pages below 2^46", ("alignment", "destination-limit")),
    KernelCheck(LOAD, "F2", "no two segments overlap", "EINVAL",
                "use other addresses or a larger window", ("overlap",)),
    KernelCheck(LOAD, "F3", "bufsz is at most memsz", "EINVAL", "use a larger memsz", ("bufsz",)),
    KernelCheck(LOAD, "F4", "no segment has more pages than half of RAM (4.8)", "EINVAL",
                "use a smaller window; swap does not count", ("half-of-ram",)),
    KernelCheck(LOAD, "F5", "all segments together have at most half of the pages of RAM (4.8)",
                "EINVAL", "use a smaller window or initrd; swap does not count", ("half-of-ram",)),
    KernelCheck(LOAD, "F6", "every segment of a crash image is in the crash region",
                "EADDRNOTAVAIL", "use a larger crashkernel= or a smaller image", ("reservation",)),
    KernelCheck(LOAD, "G", "control pages and page tables can be allocated", "ENOMEM", MEMORY_FIX),
    KernelCheck(LOAD, "G", "the processors can be switched off, for a normal image (arm64)",
                "EBUSY", "only a capture kernel in the crash region can be loaded there"),
    KernelCheck(LOAD, "G", "a page can be allocated for every page of the image", "ENOMEM",
                MEMORY_FIX),
    KernelCheck(LOAD, "G", "the bytes of every segment can be read", "EFAULT",
                "report a bug in the program"),
    KernelCheck(FILE_LOAD, "0", "the system call exists", "ENOSYS",
                "use a kernel with CONFIG_KEXEC_FILE=y; doctor shows which calls this one has"),
    KernelCheck(FILE_LOAD, "A1", "the caller has CAP_SYS_BOOT", "EPERM", ROOT_FIX),
    KernelCheck(FILE_LOAD, "A1", "kernel.kexec_load_disabled is 0", "EPERM", DISABLED_FIX),
    KernelCheck(FILE_LOAD, "A2", "kernel.kexec_load_limit_reboot (or _panic) is not used up (6.3)",
                "EPERM", LIMIT_FIX),
    KernelCheck(FILE_LOAD, "A5", "every flag is known", "EINVAL",
                "use a newer kernel, or omit that option"),
    KernelCheck(FILE_LOAD, "B", "no other kexec operation is in progress", "EBUSY", BUSY_FIX),
    KernelCheck(FILE_LOAD, "C", "the kernel file can be read", "EBADF", "a regular file"),
    KernelCheck(FILE_LOAD, "C", "the kernel file is not too large", "EFBIG",
                "use a compressed image, as distributions ship it"),
    KernelCheck(FILE_LOAD, "C", "the security module allows reading the file (IMA)", "EACCES",
                "use a kernel that is signed for IMA"),
    KernelCheck(FILE_LOAD, "D", "a loader accepts the image", "ENOEXEC",
                "unpack it, or use --syscall load: x86 needs a bzImage of protocol 2.12"),
    KernelCheck(FILE_LOAD, "D", "a loader accepts the image (arm64 returns this)", "EINVAL",
                "unpack it, or use --syscall load"),
    KernelCheck(FILE_LOAD, "S", "the signature is valid", "EKEYREJECTED",
                "use a kernel signed with a key that this machine trusts"),
    KernelCheck(FILE_LOAD, "S", "the key of the signature is known", "ENOKEY",
                "enroll the key (mokutil --import), or use a kernel signed with another key"),
    KernelCheck(FILE_LOAD, "S", "the algorithm of the signature is built in", "ENOPKG",
                "use a kernel signed with another algorithm"),
    KernelCheck(FILE_LOAD, "S", "the signature can be parsed", "EBADMSG",
                "use the file as it was signed, not unpacked or stripped"),
    KernelCheck(FILE_LOAD, "S", "there is a signature", "ENODATA", "a signed kernel"),
    KernelCheck(FILE_LOAD, "S", "an unsigned kernel is allowed (not when locked down)", "EPERM",
                "use a signed kernel, or turn Secure Boot off"),
    KernelCheck(FILE_LOAD, "L", "the command line fits the image's cmdline_size", "EINVAL",
                f"use a shorter line: {file_load_limit(2047)} bytes if cmdline_size is "
                    "2047, because 30 are kept for elfcorehdr= in every load, and the NUL "
                    "counts"),
    KernelCheck(FILE_LOAD, "L", "the command line can be read", "EFAULT",
                "report a bug in the program"),
    KernelCheck(FILE_LOAD, "P", "there is a hole for each segment", "EADDRNOTAVAIL",
                "use a larger crashkernel=, or --syscall load to choose the address"),
    KernelCheck(FILE_LOAD, "F", "the segments pass the checks of kexec_load", "EINVAL",
                "use a smaller initrd: the limit is half of RAM"),
    KernelCheck(FILE_LOAD, "G", "memory for the image can be allocated", "ENOMEM", MEMORY_FIX),
    KernelCheck(REBOOT, "A1", "the caller has CAP_SYS_BOOT", "EPERM", ROOT_FIX),
    KernelCheck(REBOOT, "B", "no other kexec operation is in progress", "EBUSY", BUSY_FIX),
    KernelCheck(REBOOT, "C", "an image is loaded", "EINVAL",
                "load an image first; reboot does not start a crash image"),
)  # fmt: skip
"""In the kernel's order, by system call."""

RULES = {rule: check for check in CHECKS for rule in check.rules}
NOT_THE_KERNELS = "the kernel does not check this; the new kernel would not start"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One check of a plan: `ok` is None if a fact was unknown; `check` is None if the kernel does
    not check this."""

    rule: str
    ok: bool | None
    detail: str
    check: KernelCheck | None

    @property
    def answer(self) -> str:
        """What the kernel would return for a plan that breaks it."""
        return f"{self.check.syscall}: {self.check.errno}" if self.check else NOT_THE_KERNELS


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """One of pykexec's own error codes, from its class."""

    code: str
    meaning: str
    exit_status: int


def explain_errno(name: str) -> tuple[KernelCheck, ...]:
    """Every check that returns this errno ("EPERM", "eperm" or "1"), in order.

    () for an errno that kexec never returns. Raises UsageError if it is not an errno."""
    word = name.strip().upper()
    if word.isdecimal() and len(word) < 5:
        word = errno.errorcode.get(int(word), word)
    if word not in errno.errorcode.values():
        raise UsageError(
            f"not an errno: {name[:40]!r}",
            hint="use an errno such as EPERM, EINVAL or EADDRNOTAVAIL",
        )
    return tuple(check for check in CHECKS if check.errno == word)


def explain_code(code: str) -> ErrorKind | None:
    """The meaning of one of pykexec's own error codes; None for an unknown code."""
    return error_kinds().get(code)


def error_kinds() -> dict[str, ErrorKind]:
    """All codes with the first paragraph of their class's docstring; imports every module."""
    for module in walk_packages(pykexec.__path__, "pykexec."):
        if not module.name.startswith(("pykexec.cli", "pykexec.__main__")):
            _import_if_possible(module.name)
    kinds: dict[str, ErrorKind] = {}
    for kind in subclasses(KexecError):
        meaning = " ".join((kind.__doc__ or "").partition("\n\n")[0].split())
        if "code" in vars(kind):
            kinds[kind.code] = ErrorKind(kind.code, meaning, kind.exit_status)
    return dict(sorted(kinds.items()))


def _import_if_possible(name: str) -> None:
    """A module of ours that needs an optional package defines no error."""
    try:
        import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == pykexec.__name__:
            raise


def subclasses(kind: type[KexecError]) -> Iterator[type[KexecError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from subclasses(child)


def verdicts(plan: PlanDocument) -> tuple[Verdict, ...]:
    """The checks of a plan, with the kernel's results."""
    return tuple(
        Verdict(item.rule, item.ok, item.detail, RULES.get(item.rule)) for item in plan.checks
    )
