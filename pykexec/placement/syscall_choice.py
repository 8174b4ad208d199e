"""Decides between kexec_load(2) and kexec_file_load(2) from facts, before either is called.

A load, its dry run and `doctor` all use `choose_syscall`. Every call, even a failed one, can count
against a load limit, so nothing is determined by trial. kexec_load is the default: pykexec places
the image, and reports where. kexec_file_load is used if the kernel refuses kexec_load.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import TYPE_CHECKING

from pykexec.errors import KexecError, NotPermitted, NotSupported, UsageError
from pykexec.frozen import dataclass
from pykexec.placement.request import ImageKind, LoadRequest, Mode
from pykexec.remedies import Omit, Use, Wish, any_of

if TYPE_CHECKING:
    from pykexec.machine import Machine

LOCKED = ("integrity", "confidentiality")
ANOTHER_KERNEL = "boot a kernel with CONFIG_KEXEC=y, such as that of a distribution"
UNLOCK = "turn Secure Boot off, and boot without lockdown="
ONLY_A_REBOOT = "only a reboot resets it"


class Syscall(Enum):
    """Both that load an image."""

    LOAD = "load"
    FILE = "file"

    def __str__(self) -> str:
        return {"load": "kexec_load", "file": "kexec_file_load"}[self.value]


@dataclass(frozen=True, slots=True)
class SyscallChoice:
    """Which system call, and why."""

    syscall: Syscall
    why: str

    @property
    def is_file(self) -> bool:
        return self.syscall is Syscall.FILE


def choose_syscall(
    machine: Machine, request: LoadRequest, asked: Syscall | None, image_type: str | None = None
) -> SyscallChoice:
    """Which call to use, according to the facts about the running kernel.

    An unknown fact never causes an error, and neither does a missing CAP_SYS_BOOT: a dry run needs
    no privilege, and the kernel itself refuses the load. Raises UsageError for an option that
    kexec_file_load would ignore, NotPermitted and NotSupported if the kernel is known to refuse the
    load.
    """
    if refusal := next(refusals(machine, request), None):
        raise refusal
    needs = needing_load(request, image_type)
    if asked is Syscall.FILE:
        if needs:
            raise UsageError(
                f"{NOUNS[needs[0]]} has no effect in kexec_file_load: the kernel places the image",
                hint=any_of(Omit(needs[0]), Use(Wish.SYSCALL, "load")),
            )
        if lacks_file_load(machine):
            raise NotSupported(
                "this kernel has no kexec_file_load: CONFIG_KEXEC_FILE is not set",
                hint=any_of(Use(Wish.SYSCALL, "load"), Omit(Wish.SYSCALL)),
            )
        return SyscallChoice(Syscall.FILE, "requested by the user")
    if asked is Syscall.LOAD and machine.lockdown not in LOCKED and not _lacks_load(machine):
        return SyscallChoice(Syscall.LOAD, "requested by the user")
    refused = why_load_is_refused(machine)
    if refused is None:
        return SyscallChoice(Syscall.LOAD, "it places the image as planned")
    if asked is Syscall.LOAD or needs:
        raise _without_load(machine, refused, needs, asked)
    if lacks_file_load(machine):
        raise _without_file_load(machine, refused)
    return SyscallChoice(Syscall.FILE, refused)


def refusals(machine: Machine, request: LoadRequest) -> Iterator[KexecError]:
    """The reasons for which both system calls fail (kernel/kexec_core.c:kexec_load_permitted)."""
    if no_kexec_at_all(machine):
        yield NotSupported(
            "this kernel has no kexec system call: CONFIG_KEXEC and CONFIG_KEXEC_FILE are not set",
            hint=ANOTHER_KERNEL,
        )
    if machine.kexec.load_disabled is True:
        yield NotPermitted(
            "kernel.kexec_load_disabled is 1: every load is refused",
            hint="only a reboot clears it: remove the sysctl from /etc/sysctl.d",
        )
    name, limit = _load_limit(machine, request)
    if limit == 0:
        yield NotPermitted(
            f"kernel.{name} is 0: no more loads of this kind are allowed", hint=ONLY_A_REBOOT
        )


def no_kexec_at_all(machine: Machine) -> bool:
    """According to the build options, or to /sys/kernel, where CONFIG_KEXEC_CORE creates files."""
    if machine.kexec.in_kernel is False:
        return True
    return _lacks_load(machine) and lacks_file_load(machine)


def _load_limit(machine: Machine, request: LoadRequest) -> tuple[str, object]:
    """The sysctl that counts this load, and its remaining value."""
    if _goes_into_the_crash_slot(request):
        return "kexec_load_limit_panic", machine.kexec.load_limit_panic
    return "kexec_load_limit_reboot", machine.kexec.load_limit_reboot


def _goes_into_the_crash_slot(request: LoadRequest) -> bool:
    """Whether the image goes into the crash slot: every crash image except that of kernel-swap
    does."""
    return request.kind is not ImageKind.NORMAL and request.mode is not Mode.KERNEL_SWAP


def needing_load(request: LoadRequest, image_type: str | None) -> tuple[Wish, ...]:
    """What was asked for and only kexec_load can serve."""
    given = {
        Wish.CRASH_BY_NORMAL: request.kind is ImageKind.CRASH_BY_NORMAL,
        Wish.MEM_MIN: request.mem_min is not None,
        Wish.MEM_MAX: request.mem_max is not None,
        Wish.ENTRY: request.entry is not None,
        Wish.NO_CHECKS: not request.checks,
        Wish.MODULE: bool(request.modules),
        Wish.DTB: request.dtb is not None,
        Wish.REAL_MODE: request.real_mode,
        Wish.TYPE: image_type is not None,
    }
    return tuple(wish for wish, asked in given.items() if asked)


NOUNS = {
    Wish.CRASH_BY_NORMAL: "a crash by normal",
    Wish.MEM_MIN: "a lower bound on addresses",
    Wish.MEM_MAX: "an upper bound on addresses",
    Wish.ENTRY: "an entry address",
    Wish.NO_CHECKS: "skipping the digest verification",
    Wish.MODULE: "a module",
    Wish.DTB: "a device tree",
    Wish.REAL_MODE: "the real-mode entry",
    Wish.TYPE: "an image type",
}
"""What messages call the wishes that only kexec_load can serve."""


def why_load_is_refused(machine: Machine) -> str | None:
    """None if nothing is known against kexec_load."""
    if machine.lockdown in LOCKED:
        return f"kexec_load is disabled by lockdown={machine.lockdown}"
    if _lacks_load(machine):
        return "this kernel has no kexec_load: CONFIG_KEXEC is not set"
    if machine.option("CONFIG_KEXEC_SIG_FORCE") == "y":
        return "kexec_load is disabled by CONFIG_KEXEC_SIG_FORCE, which requires signatures"
    return None


def _without_load(
    machine: Machine, refused: str, needs: tuple[Wish, ...], asked: Syscall | None
) -> KexecError:
    """The error for a load that only kexec_load can make."""
    kind = NotSupported if _lacks_load(machine) else NotPermitted
    if not needs:
        signed = Omit(Wish.SYSCALL, "load", ": kexec_file_load accepts a signed kernel")
        return kind(refused, hint=ANOTHER_KERNEL if lacks_file_load(machine) else signed)
    if _lacks_load(machine) or lacks_file_load(machine):
        return kind(f"{refused}, and {NOUNS[needs[0]]} needs it", hint=_how_to_permit(machine))
    return kind(
        f"{refused}, and {NOUNS[needs[0]]} needs it",
        hint=Omit(needs[0], rest=": kexec_file_load accepts a signed kernel"),
    )


def _without_file_load(machine: Machine, refused: str) -> KexecError:
    """The error if kexec_load is refused and kexec_file_load does not exist."""
    return NotPermitted(
        f"{refused}, and this kernel has no kexec_file_load: CONFIG_KEXEC_FILE is not set",
        hint=_how_to_permit(machine),
    )


def _how_to_permit(machine: Machine) -> str:
    """What makes kexec_load possible, where kexec_file_load is no way out."""
    locked = machine.lockdown in LOCKED and not _lacks_load(machine)
    return UNLOCK if locked else ANOTHER_KERNEL


def _lacks_load(machine: Machine) -> bool:
    return _lacks(machine, "CONFIG_KEXEC")


def lacks_file_load(machine: Machine) -> bool:
    return _lacks(machine, "CONFIG_KEXEC_FILE")


def _lacks(machine: Machine, option: str) -> bool:
    """Whether a build option is known to be off. Unknown is not off."""
    return machine.option(option) == "n"
