"""Every fixed address and limit of an x86_64 load, each under the reason for it."""

from __future__ import annotations

from pykexec.memory.ranges import GIB, MIB, PhysRange

LOW_MEMORY = PhysRange(0x1000, 0xA0000)
"""Conventional memory. A capture kernel without RAM here panics: "Real mode
trampoline was not allocated" (arch/x86/realmode/init.c:init_real_mode)."""

BELOW_4G = PhysRange(0, 4 * GIB)
"""A capture kernel with no RAM here has no DMA32 pool."""

DESTINATION_LIMIT = (1 << 46) - 1
"""KEXEC_DESTINATION_MEMORY_LIMIT with four-level page tables (asm/kexec.h)."""

DESTINATIONS = PhysRange(0x1000, (1 << 46) - 0x1000)
"""Pages to load into: all that end below that limit, but for the first one, which has the real-mode
interrupt table and the BIOS data area (kexec-tools spares it too)."""

ABOVE_1_MIB = PhysRange(MIB, 1 << 46)
"""Off the low memory that firmware and trampolines live on."""

ABOVE_16_MIB = PhysRange(16 * MIB, 1 << 46)
"""Off the DMA zone, which drivers of old devices live on."""

PURGATORY_MIN = 0x3000
BOOT_PARAMS_MIN = 0x3000
"""kexec-bzimage64.c: MIN_PURGATORY_ADDR, MIN_BOOTPARAM_ADDR."""

KERNEL_MIN = MIB
"""kexec-bzimage64.c: MIN_KERNEL_LOAD_ADDR."""

PURGATORY_END_32 = 2 * GIB
"""kexec-bzImage.c, for a kernel by its 32-bit entry."""

KERNEL_END_32 = 0x38000000
"""kexec-tools' DEFAULT_BZIMAGE_ADDR_MAX: lowmem of a 32-bit kernel."""

INITRD_MIN = 16 * MIB
"""kexec-bzimage64.c: MIN_INITRD_LOAD_ADDR."""

LOAD_PHYSICAL_ADDR = 16 * MIB
"""CONFIG_PHYSICAL_START of every distribution: a bzImage that is loaded lower moves
itself up to here (arch/x86/boot/compressed/head_64.S), out of its segment."""

WINDOW_ALIGN = 2 * MIB
"""Whole huge pages, and the usual kernel_alignment."""
