"""What the kernel checks, in its order, for each errno; and which rule a plan would break.

The table follows kernel/kexec.c, kexec_core.c, kexec_file.c and reboot.c; its stages are
those of the simulated kernel. A kernel says only the errno: several checks share one.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pkgutil import walk_packages

import pykexec
from pykexec.documents.plan import PlanDocument
from pykexec.errors import KexecError, UsageError
from pykexec.placement.cmdline import file_load_limit

LOAD, FILE_LOAD, REBOOT = "kexec_load", "kexec_file_load", "reboot"
ROOT_FIX = "run as root; containers and units drop CAP_SYS_BOOT"
DISABLED_FIX = "only a reboot clears it; look for the sysctl in /etc/sysctl.d"
LIMIT_FIX = "only a reboot resets it; every load and unload counts, failed ones too"
BUSY_FIX = "try again in a moment: loads, unloads, crash_size and CPU hot-plug share one lock"
MEMORY_FIX = "free memory, or load less: the image is held twice until the switch"


@dataclass(frozen=True, slots=True)
class KernelCheck:
    """One check: where it stands in the order, what it answers, what that means, the remedy.

    `rules` are the checks of a plan that are made to avoid it."""

    syscall: str
    stage: str
    check: str
    errno: str
    fix: str
    rules: tuple[str, ...] = ()


CHECKS = (
    KernelCheck(LOAD, "0", "the system call exists", "ENOSYS",
                "a kernel with CONFIG_KEXEC=y; a seccomp filter can answer this too"),
    KernelCheck(LOAD, "A1", "the caller has CAP_SYS_BOOT", "EPERM", ROOT_FIX),
    KernelCheck(LOAD, "A1", "kernel.kexec_load_disabled is 0", "EPERM", DISABLED_FIX),
    KernelCheck(LOAD, "A2", "kernel.kexec_load_limit_reboot (or _panic) is not used up (6.3)",
                "EPERM", LIMIT_FIX),
    KernelCheck(LOAD, "A3", "no security module wants to see a signed file (IMA)", "EACCES",
                "--syscall file; unload through it too"),
    KernelCheck(LOAD, "A4", "the kernel is not locked down", "EPERM",
                "--syscall file with a signed kernel, or turn Secure Boot off"),
    KernelCheck(LOAD, "A5", "every flag is known", "EINVAL",
                "a flag that this kernel lacks: KEXEC_PRESERVE_CONTEXT needs CONFIG_KEXEC_JUMP, "
                "KEXEC_UPDATE_ELFCOREHDR 6.6, KEXEC_CRASH_HOTPLUG_SUPPORT 6.10"),
    KernelCheck(LOAD, "A6", "at most 16 segments", "EINVAL",
                "a window inside one piece of RAM", ("segment-count",)),
    KernelCheck(LOAD, "A7", "the architecture in the flags is the kernel's", "EINVAL",
                "a 64-bit program for a 64-bit kernel"),
    KernelCheck(LOAD, "A8", "the segment array can be read", "EFAULT", "a fault of the program"),
    KernelCheck(LOAD, "B", "nobody else works on kexec", "EBUSY", BUSY_FIX),
    KernelCheck(LOAD, "E", "the entry of a crash image is in the reserved region",
                "EADDRNOTAVAIL", "pykexec region make, or boot with crashkernel=",
                ("reservation-entry",)),
    KernelCheck(LOAD, "F1", "mem and memsz are whole pages, below the limit, and do not wrap",
                "EADDRNOTAVAIL", "whole pages below 2^46", ("alignment", "destination-limit")),
    KernelCheck(LOAD, "F2", "no two segments overlap", "EINVAL",
                "other addresses, or a larger window", ("overlap",)),
    KernelCheck(LOAD, "F3", "bufsz is at most memsz", "EINVAL", "a larger memsz", ("bufsz",)),
    KernelCheck(LOAD, "F4", "no segment has more than half of the pages of RAM (4.8)", "EINVAL",
                "a smaller window; swap does not count", ("half-of-ram",)),
    KernelCheck(LOAD, "F5", "all segments have at most half of the pages of RAM (4.8)", "EINVAL",
                "a smaller window or initrd; swap does not count", ("half-of-ram",)),
    KernelCheck(LOAD, "F6", "every segment of a crash image is in the reserved region",
                "EADDRNOTAVAIL", "a larger crashkernel=, or a smaller image", ("reservation",)),
    KernelCheck(LOAD, "G", "control pages and page tables can be had", "ENOMEM", MEMORY_FIX),
    KernelCheck(LOAD, "G", "a page can be had for every page of the image", "ENOMEM", MEMORY_FIX),
    KernelCheck(LOAD, "G", "the bytes of every segment can be read", "EFAULT",
                "a fault of the program"),
    KernelCheck(FILE_LOAD, "0", "the system call exists", "ENOSYS",
                "a kernel with CONFIG_KEXEC_FILE=y; doctor shows which call this one has"),
    KernelCheck(FILE_LOAD, "A1", "the caller has CAP_SYS_BOOT", "EPERM", ROOT_FIX),
    KernelCheck(FILE_LOAD, "A1", "kernel.kexec_load_disabled is 0", "EPERM", DISABLED_FIX),
    KernelCheck(FILE_LOAD, "A2", "kernel.kexec_load_limit_reboot (or _panic) is not used up (6.3)",
                "EPERM", LIMIT_FIX),
    KernelCheck(FILE_LOAD, "A5", "every flag is known", "EINVAL",
                "a newer kernel, or without that option"),
    KernelCheck(FILE_LOAD, "B", "nobody else works on kexec", "EBUSY", BUSY_FIX),
    KernelCheck(FILE_LOAD, "C", "the kernel file can be read", "EBADF", "a regular file"),
    KernelCheck(FILE_LOAD, "C", "the kernel file is not too large", "EFBIG",
                "a compressed image, as the distribution ships it"),
    KernelCheck(FILE_LOAD, "C", "the security module lets the file be read (IMA)", "EACCES",
                "a kernel that is signed for IMA"),
    KernelCheck(FILE_LOAD, "D", "a loader knows the image", "ENOEXEC",
                "unpack it, or take --syscall load: x86 wants a bzImage of protocol 2.12"),
    KernelCheck(FILE_LOAD, "D", "a loader knows the image (arm64 answers this)", "EINVAL",
                "unpack it, or take --syscall load"),
    KernelCheck(FILE_LOAD, "S", "the signature is good", "EKEYREJECTED",
                "a kernel signed by a key that this machine trusts"),
    KernelCheck(FILE_LOAD, "S", "the key of the signature is there", "ENOKEY",
                "enrol the key (mokutil --import), or a kernel signed by another"),
    KernelCheck(FILE_LOAD, "S", "the signature's algorithm is built in", "ENOPKG",
                "a kernel signed with another algorithm"),
    KernelCheck(FILE_LOAD, "S", "the signature can be parsed", "EBADMSG",
                "the file as it was signed: an unpacked or stripped one is not"),
    KernelCheck(FILE_LOAD, "S", "there is a signature", "ENODATA", "a signed kernel"),
    KernelCheck(FILE_LOAD, "S", "an unsigned kernel is allowed (not when locked down)", "EPERM",
                "a signed kernel, or turn Secure Boot off"),
    KernelCheck(FILE_LOAD, "L", "the command line fits the image's cmdline_size", "EINVAL",
                f"a shorter line: {file_load_limit(2047)} bytes where cmdline_size is 2047, "
                "since 30 are kept for elfcorehdr= in every load, and the NUL counts"),
    KernelCheck(FILE_LOAD, "L", "the command line can be read", "EFAULT",
                "a fault of the program"),
    KernelCheck(FILE_LOAD, "P", "there is a hole for each piece", "EADDRNOTAVAIL",
                "a larger crashkernel=, or --syscall load for a place of one's own"),
    KernelCheck(FILE_LOAD, "F", "the segments pass the checks of kexec_load", "EINVAL",
                "a smaller initrd: half of RAM is the most"),
    KernelCheck(FILE_LOAD, "G", "memory for the image can be had", "ENOMEM", MEMORY_FIX),
    KernelCheck(REBOOT, "A1", "the caller has CAP_SYS_BOOT", "EPERM", ROOT_FIX),
    KernelCheck(REBOOT, "B", "nobody else works on kexec", "EBUSY", BUSY_FIX),
    KernelCheck(REBOOT, "C", "an image is loaded", "EINVAL",
                "load one first; a crash image is not started by reboot"),
)  # fmt: skip
"""In the kernel's order, one system call after the other."""

RULES = {rule: check for check in CHECKS for rule in check.rules}
NOT_THE_KERNELS = "the kernel does not check this; the new kernel would not come up"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One check of a plan: `ok` is None where a fact was unknown; `check` is None where
    the kernel would not have noticed."""

    rule: str
    ok: bool | None
    detail: str
    check: KernelCheck | None

    @property
    def answer(self) -> str:
        """What the kernel would say to a plan that breaks it."""
        return f"{self.check.syscall}: {self.check.errno}" if self.check else NOT_THE_KERNELS


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """One of our own error codes, from the class that raises it."""

    code: str
    meaning: str
    exit_status: int


def explain_errno(name: str) -> tuple[KernelCheck, ...]:
    """Every check that answers this errno ("EPERM", "eperm" or "1"), in order.

    () for an errno that kexec never answers; UsageError for what is none at all."""
    word = name.strip().upper()
    if word.isdecimal() and len(word) < 5:
        word = errno.errorcode.get(int(word), word)
    if word not in errno.errorcode.values():
        raise UsageError(f"not an errno: {name[:40]!r}", hint="e.g. EPERM, EINVAL, EADDRNOTAVAIL")
    return tuple(check for check in CHECKS if check.errno == word)


def explain_code(code: str) -> ErrorKind | None:
    """What one of our own error codes means; None for a code that there is none of."""
    return error_kinds().get(code)


def error_kinds() -> dict[str, ErrorKind]:
    """All codes with the first paragraph of their class; imports every module."""
    for module in walk_packages(pykexec.__path__, "pykexec."):
        if not module.name.startswith(("pykexec.cli", "pykexec.__main__")):
            import_module(module.name)
    kinds: dict[str, ErrorKind] = {}
    for kind in subclasses(KexecError):
        meaning = " ".join((kind.__doc__ or "").partition("\n\n")[0].split())
        if "code" in vars(kind):
            kinds[kind.code] = ErrorKind(kind.code, meaning, kind.exit_status)
    return dict(sorted(kinds.items()))


def subclasses(kind: type[KexecError]) -> Iterator[type[KexecError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from subclasses(child)


def verdicts(plan: PlanDocument) -> tuple[Verdict, ...]:
    """The checks of a plan, as the kernel would answer them."""
    return tuple(
        Verdict(item.rule, item.ok, item.detail, RULES.get(item.rule)) for item in plan.checks
    )
