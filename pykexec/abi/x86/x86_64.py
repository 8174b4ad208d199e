"""arch/x86/include/asm/page_64_types.h."""

from __future__ import annotations

START_KERNEL_MAP = 0xFFFFFFFF80000000
"""__START_KERNEL_map: virtual minus physical address of the kernel's text, apart from KASLR and
phys_base. The direct map is below (Documentation/arch/x86/x86_64/mm.rst)."""
