"""Every fixed address and limit of a load on x86, each with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.arch import I386, X86_64, Arch
from pykexec.memory.ranges import GIB, MIB, PhysRange, align_down
from pykexec.placement.limits import Limits

if TYPE_CHECKING:
    from pykexec.machine import Machine

LOW_MEMORY = PhysRange(0x1000, 0xA0000)
"""Conventional memory. A capture kernel without RAM here panics: "Real mode
trampoline was not allocated" (arch/x86/realmode/init.c:init_real_mode)."""

WHY_LOW = "the real-mode trampoline of the capture kernel needs RAM here"

BELOW_4G = PhysRange(0, 4 * GIB)
"""A capture kernel without RAM here has no DMA32 pool."""

FIRST_PAGE_END = 0x1000
"""Nothing is loaded into the first page, which has the real-mode interrupt table and the BIOS data
area (nor does kexec-tools use it)."""

ABOVE_1_MIB = PhysRange(MIB, 1 << 46)
"""Avoids the low memory that firmware and trampolines use."""

ABOVE_16_MIB = PhysRange(16 * MIB, 1 << 46)
"""Avoids the DMA zone, which drivers of old devices use."""

PURGATORY_MIN = 0x3000
BOOT_PARAMS_MIN = 0x3000
"""kexec-bzimage64.c: MIN_PURGATORY_ADDR, MIN_BOOTPARAM_ADDR."""

KERNEL_MIN = MIB
"""kexec-bzimage64.c: MIN_KERNEL_LOAD_ADDR."""

PURGATORY_END_32 = 2 * GIB
"""From kexec-bzImage.c, for a kernel by its 32-bit entry."""

KERNEL_END_32 = 0x38000000
"""kexec-tools' DEFAULT_BZIMAGE_ADDR_MAX: lowmem of a 32-bit kernel."""

INITRD_MIN = 16 * MIB
"""kexec-bzimage64.c: MIN_INITRD_LOAD_ADDR."""

LOAD_PHYSICAL_ADDR = 16 * MIB
"""CONFIG_PHYSICAL_START of all distributions: a bzImage that is loaded lower moves itself up to
here (arch/x86/boot/compressed/head_64.S), out of its segment."""

WINDOW_ALIGN = 2 * MIB
"""Whole huge pages, and the usual kernel_alignment."""


def arch_of(machine: Machine) -> Arch:
    """The machine's architecture; x86_64 if it is unknown or of another family."""
    return I386 if machine.arch is I386 else X86_64


def limits_of(arch: Arch) -> Limits:
    """Destinations are all pages that end at or below the last address that the kernel accepts."""
    return Limits(
        destinations=PhysRange(FIRST_PAGE_END, align_down(arch.destination_limit, arch.page_size)),
        window=ABOVE_16_MIB,
        preferred=BELOW_4G,
        window_align=WINDOW_ALIGN,
        low_memory=LOW_MEMORY,
        why_low=WHY_LOW,
        low_end=MIB,
        kernel_floor=LOAD_PHYSICAL_ADDR,
        purgatory_min=PURGATORY_MIN,
        headers_min=BOOT_PARAMS_MIN,
    )
