"""kexec_load(2) or kexec_file_load(2), and why: from facts, before either is called.

Every call, even a refused one, can count against a load limit, so nothing is found out
by trying. kexec_load is what pykexec is for: it places the image, and says where. The
file syscall is taken where the kernel takes nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from pykexec.errors import NotPermitted, UsageError
from pykexec.machine import Machine, Unknown
from pykexec.placement.plan import ImageKind, LoadRequest


class Syscall(Enum):
    """As --syscall spells them."""

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
    """Raises UsageError for an option that kexec_file_load would ignore, NotPermitted where
    an option needs the syscall that this kernel refuses."""
    needs = needing_load(request, image_type)
    if asked is Syscall.FILE:
        if needs:
            raise UsageError(
                f"{needs[0]} would be ignored: with --syscall file the kernel places the image",
                hint="--syscall load",
            )
        return SyscallChoice(Syscall.FILE, "it was asked for")
    if asked is Syscall.LOAD:
        return SyscallChoice(Syscall.LOAD, "it was asked for")
    refused = why_load_is_refused(machine)
    if refused is None:
        return SyscallChoice(Syscall.LOAD, "it places the image where the plan says")
    if needs:
        raise NotPermitted(
            f"{refused}, and {needs[0]} needs it",
            hint=f"leave {needs[0]} out: kexec_file_load takes a signed kernel",
        )
    return SyscallChoice(Syscall.FILE, refused)


def needing_load(request: LoadRequest, image_type: str | None) -> tuple[str, ...]:
    """The options given that only kexec_load can serve."""
    given = {
        "--crash-by-normal": request.kind is ImageKind.CRASH_BY_NORMAL,
        "--mem-min": request.mem_min is not None,
        "--mem-max": request.mem_max is not None,
        "--entry": request.entry is not None,
        "--no-checks": not request.checks,
        "--module": bool(request.modules),
        "--real-mode": request.real_mode,
        "--type": image_type is not None,
    }
    return tuple(name for name, asked in given.items() if asked)


def why_load_is_refused(machine: Machine) -> str | None:
    """None where nothing is known against kexec_load."""
    if machine.lockdown in ("integrity", "confidentiality"):
        return f"lockdown={machine.lockdown} refuses kexec_load"
    option = machine.option("CONFIG_KEXEC")
    if not isinstance(option, Unknown) and option != "y":
        return "this kernel has no kexec_load (CONFIG_KEXEC is not set)"
    if machine.option("CONFIG_KEXEC_SIG_FORCE") == "y":
        return "CONFIG_KEXEC_SIG_FORCE refuses what has no signature"
    return None
