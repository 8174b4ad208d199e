"""arch/x86/include/asm/page_types.h."""

from __future__ import annotations

PAGE_SIZE = 4096
"""Bytes of a page, on every x86."""
