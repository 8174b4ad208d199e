"""What the running kernel shows about encrypted memory, besides the flags of its CPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.abi.elf import NHDR, PT_NOTE
from pykexec.crash.notes import VMCOREINFO, vmcoreinfo_values
from pykexec.host.kernel_map import KCORE, program_headers
from pykexec.machine import Unknown
from pykexec.memory.ranges import align_up

if TYPE_CHECKING:
    from pykexec.host.root import Root

NOTES_MAX = 16
"""Limit for notes of /proc/kcore; it has four."""
VMCOREINFO_MAX = 1 << 16
"""Limit in bytes for a VMCOREINFO note; that of the kernel has a page."""
DIGITS_MAX = 20
"""Digits of a 64-bit number."""
CC_BLOB_ADDRESS = 0x13C
"""boot_params.cc_blob_address: the secrets and CPUID pages of an SEV-SNP guest."""
SNP_FOLDERS = (("/sys/devices/system/cpu", "sev"), ("/sys/bus/platform/devices", "sev-guest"))
"""Created by arch/x86/coco/sev only in SEV-SNP guests."""


def sme_mask(root: Root) -> int | Unknown:
    """NUMBER(sme_mask) of VMCOREINFO, which is among the notes of /proc/kcore since 4.19."""
    found = _vmcoreinfo_text(root)
    if isinstance(found, Unknown):
        return found
    value = vmcoreinfo_values(found).get("NUMBER(sme_mask)", "")
    if not value.isdecimal() or len(value) > DIGITS_MAX:
        return Unknown(f"{KCORE}: VMCOREINFO has no NUMBER(sme_mask)")
    return int(value)


def _vmcoreinfo_text(root: Root) -> bytes | Unknown:
    """The descriptor of the VMCOREINFO note. The other notes contain a task's memory: only their
    headers are read, so that a captured machine does not contain more."""
    headers = program_headers(root)
    if isinstance(headers, Unknown):
        return headers
    at = next((header[2] for header in headers if header[0] == PT_NOTE), 0)
    for _ in range(NOTES_MAX if at else 0):
        header = root.part(KCORE, at, NHDR.size)
        if isinstance(header, Unknown):
            return header
        namesz, descsz, _ = NHDR.unpack(header)
        desc_at = at + NHDR.size + align_up(namesz, 4)
        if namesz == len(VMCOREINFO) + 1 and descsz <= VMCOREINFO_MAX:
            name = root.part(KCORE, at + NHDR.size, len(VMCOREINFO))
            if name == VMCOREINFO:
                return root.part(KCORE, desc_at, descsz)
        at = desc_at + align_up(descsz, 4)
    return Unknown(f"{KCORE}: no VMCOREINFO among its notes")


def snp_guest(root: Root, params: bytes | Unknown) -> bool | Unknown:
    """Whether the kernel runs as an SEV-SNP guest (arch/x86/boot/compressed/sev.c:snp_init)."""
    for folder, name in SNP_FOLDERS:
        names = root.entries(folder)
        if isinstance(names, tuple) and name in names:
            return True
    if isinstance(params, Unknown):
        return params
    return any(params[CC_BLOB_ADDRESS : CC_BLOB_ADDRESS + 4])
