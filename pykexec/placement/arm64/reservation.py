"""The minimum size of the reserved region: the kernel's own pages, and those of the stub."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.memory.ranges import align_up

if TYPE_CHECKING:
    from pykexec.arch import Arch

CONTROL_PAGES = 1
"""KEXEC_CONTROL_PAGE_SIZE is 4096 (arch/arm64/include/asm/kexec.h), and a crash image has no page
tables of its own (machine_kexec_post_load copies nothing for it). Seen with 6.1, 6.12 and 7.2."""
VMCOREINFO_PAGES = 1
"""kernel/crash_core.c:crash_update_vmcoreinfo_safecopy."""


def reservation_need(arch: Arch, stub_size: int) -> int:
    """Bytes of a crash region for a stub of `stub_size` bytes."""
    own = (CONTROL_PAGES + VMCOREINFO_PAGES) * arch.page_size
    return own + align_up(stub_size, arch.page_size)
