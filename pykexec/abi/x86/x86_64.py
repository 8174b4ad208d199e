"""arch/x86/include/asm/page_64_types.h."""

from __future__ import annotations

START_KERNEL_MAP = 0xFFFFFFFF80000000
"""__START_KERNEL_map: virtual less physical address of the kernel's text, but for where KASLR and
phys_base put it. The direct map lies below (Documentation/arch/x86/x86_64/mm.rst)."""
