"""Encrypted memory: whether pykexec's stub can run on a machine, and on which pages.

The stub runs on the identity map that the kernel leaves, without the kernel's handlers. In a TDX or
SEV-ES guest its port accesses and CPUID raise #VE or #VC, which only the kernel handles; with AMD
SME active the map shows ciphertext (arch/x86/kernel/machine_kexec_64.c:init_pgtable). A load, its
dry run and `doctor` all use this.
"""

from __future__ import annotations

from pykexec.machine import Machine, Unknown
from pykexec.placement.encryption import Encryption

SEV_NAMES = {"sev_snp": "AMD SEV-SNP", "sev_es": "AMD SEV-ES", "sev": "AMD SEV"}
"""CPU flags, starting with the one that implies the others."""


def memory_encryption(machine: Machine) -> Encryption | Unknown | None:
    """None if nothing encrypts. Unknown if the CPU flags are, and no other fact shows
    encryption."""
    flags = machine.cpu_flags or frozenset[str]()
    if "tdx_guest" in flags:
        return Encryption("Intel TDX", guest=True)
    if machine.snp_guest is True:
        return Encryption("AMD SEV-SNP", guest=True)
    named = next((name for flag, name in SEV_NAMES.items() if flag in flags), None)
    if named and not _is_sev_host(machine, flags):
        return Encryption(named, guest=True)
    if machine.sme_mask and "hypervisor" in flags:
        return Encryption("AMD SEV", guest=True)
    if isinstance(machine.cpu_flags, Unknown) and not machine.sme_mask:
        return machine.cpu_flags
    active = sme(machine)
    if isinstance(active, Unknown):
        return active
    return Encryption("AMD SME", guest=False) if active else None


def _is_sev_host(machine: Machine, flags: frozenset[str]) -> bool:
    """Whether "sev" and similar flags are features that this processor offers to its own guests.

    CPUID 0x8000001f lists them also on a host (arch/x86/kernel/cpu/amd.c), which has "svm" to run
    guests. A virtual machine has them if it is such a guest; one that can only start such guests is
    not encrypted itself.
    """
    if "svm" not in flags:
        return machine.sme_mask == 0 and "hypervisor" not in flags
    return "hypervisor" not in flags or machine.sme_mask == 0


def sme(machine: Machine) -> bool | Unknown:
    """Whether AMD SME encrypts memory, according to VMCOREINFO, or else the last mem_encrypt= on
    the command line, or the kernel's default (arch/x86/mm/mem_encrypt_identity.c:sme_enable)."""
    if not isinstance(machine.sme_mask, Unknown):
        return machine.sme_mask != 0
    if isinstance(machine.cpu_flags, Unknown):
        return machine.cpu_flags
    if "sme" not in machine.cpu_flags:
        return False
    if isinstance(machine.cmdline, Unknown):
        return machine.cmdline
    for word in reversed(machine.cmdline.split()):
        if word in ("mem_encrypt=on", "mem_encrypt=off"):
            return word == "mem_encrypt=on"
    default = machine.option("CONFIG_AMD_MEM_ENCRYPT_ACTIVE_BY_DEFAULT")
    return default if isinstance(default, Unknown) else default == "y"
