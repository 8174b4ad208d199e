"""Conditions that can forbid a load before its segments are checked (kernel-contract 1.2, A and
B)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from pykexec.backends.backend import Slot


class Lockdown(StrEnum):
    """/sys/kernel/security/lockdown; kexec_load(2) is refused at integrity and above."""

    NONE = "none"
    INTEGRITY = "integrity"
    CONFIDENTIALITY = "confidentiality"


@dataclass(frozen=True, slots=True)
class Gates:
    """Settings of the first kernel and of the process that calls it."""

    cap_sys_boot: bool = True
    kexec_load_disabled: bool = False
    """The sysctl; it cannot be reset."""
    kexec_load_limit_panic: int = -1
    """How many more loads and unloads of a crash image are allowed; -1 for any number."""
    kexec_load_limit_reboot: int = -1
    """The same for the normal image."""
    ima_appraise: bool = False
    """The IMA policy requires a signed kernel: security_kernel_load_data returns EACCES."""
    lockdown: Lockdown = Lockdown.NONE
    busy: bool = False
    """Whether the kexec lock is held."""

    def limit(self, slot: Slot) -> int:
        if slot is Slot.CRASH:
            return self.kexec_load_limit_panic
        return self.kexec_load_limit_reboot

    def counted(self, slot: Slot) -> Gates:
        """After one more call: the limit is decremented, whatever the result of that call."""
        left = self.limit(slot)
        if left == -1:
            return self
        if slot is Slot.CRASH:
            return replace(self, kexec_load_limit_panic=left - 1)
        return replace(self, kexec_load_limit_reboot=left - 1)
